from pathlib import Path

from attrloop.components.annotate.annotate import annotate
from attrloop.components.preflight.check import examine
from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from attrloop.pipelines.demo.products import Sizes, write_catalogue
from attrloop.pipelines.demo.stand_in import serving


def test_the_stand_in_labels_the_rendered_catalogue_from_its_pixels(tmp_path, monkeypatch, rows_of):
    monkeypatch.setenv("DEMO_KEY", "any")
    write_catalogue(tmp_path / "catalogue", 1, Sizes(unlabelled=120, validation=12, test=12))
    paths = {
        key: str(tmp_path / "catalogue" / name)
        for key, name in (
            ("catalogue_schema", "schema.yaml"),
            ("listings", "listings.jsonl"),
            ("labels", "labels.jsonl"),
        )
    }
    counts = {"train_per_vertical": 2, "validation_per_vertical": 0, "test_per_vertical": 0}
    with serving(tmp_path / "catalogue", error_rate=0) as url:
        settings = {"base_url": url, "model": "demo-annotator", "key_env": "DEMO_KEY", "image_side": 64} | counts
        config = RunConfig.model_validate({"data": paths, "model": {"base": str(tmp_path)}, "annotate": settings})
        assert ["config.json" in problem.what for problem in examine(config, str(tmp_path / "run")).problems] == [True]
        Workspace.create(str(tmp_path / "run"), config)
        annotate(str(tmp_path / "run"))
    workspace = Workspace.open(str(tmp_path / "run"))
    truth = {
        (row["listing"], row["attribute"]): row["value"] for row in rows_of(Path(tmp_path, "catalogue/truth.jsonl"))
    }
    train = workspace.labels("train")
    assert len(train) == 12 * 2 * 2 and all(label.value == truth[label.listing, label.attribute] for label in train)
    assert {label.listing for label in train}.isdisjoint(
        label.listing for split in ("validation", "test") for label in workspace.labels(split)
    )
