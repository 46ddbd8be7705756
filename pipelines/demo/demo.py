"""The config of a demo run: rendered catalogue, tiny model, stand-in annotator. Its values were tuned on validation."""

from pathlib import Path

from attrloop.components.run.config import (
    AnnotateConfig,
    DataConfig,
    DpoConfig,
    EvaluateConfig,
    LoopConfig,
    MineConfig,
    ModelConfig,
    RunConfig,
    SampleConfig,
    SftConfig,
    TrackingConfig,
)

BASE = Path(__file__).parent / "base"
KEY_ENV = "ATTRLOOP_DEMO_KEY"


def demo_config(catalogue: Path, base_url: str = "http://127.0.0.1", seed: int = 0) -> RunConfig:
    """The config of `attrloop demo`.

    Args:
        catalogue: folder that `products.write_catalogue` filled.
        base_url: where the stand-in annotator answers; needed only to ask it.
        seed: of the run.
    """
    return RunConfig(
        name="demo",
        seed=seed,
        data=DataConfig(
            catalogue_schema=str(catalogue / "schema.yaml"),
            listings=str(catalogue / "listings.jsonl"),
            labels=str(catalogue / "labels.jsonl"),
            check_images=200,
        ),
        model=ModelConfig(base=str(BASE), dtype="float32"),
        annotate=AnnotateConfig(
            base_url=base_url,
            model="demo-annotator",
            key_env=KEY_ENV,
            train_per_vertical=10,
            validation_per_vertical=0,
            test_per_vertical=0,
            image_side=64,
            max_images=1,
        ),
        sft=SftConfig(learning_rate=2e-3, epochs=12, batch_size=32, feature_noise=0.7),
        sample=SampleConfig(chains=12, temperature=1.0, views="each", max_new_tokens=16, batch_size=64, shard_size=100),
        mine=MineConfig(pairs_per_sample=4, balance=3.0),
        dpo=DpoConfig(learning_rate=2e-3, epochs=2, batch_size=32, beta=0.1, nll=2.0),
        evaluate=EvaluateConfig(batch_size=200, max_new_tokens=16),
        # A gain below 0.01 is within chance on this validation split, and not worth a minute.
        loop=LoopConfig(iterations=3, min_gain=0.01),
        tracking=TrackingConfig(experiment="attrloop-demo", model_name="demo-attribute-adapter"),
    )
