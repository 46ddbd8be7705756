"""Where a run's files live and where its inputs come from: local paths, buckets and URLs.

`store.py` has the `Store` protocol, through which every step reads and writes its workspace; `opening.open_store`
returns a `LocalStore` or a `BucketStore`. `inputs.py` reads what a run did not make (config, schema, listings, labels,
images), with `urls.py` for what lies behind URLs. `files.py` and `parquet.py` write local files in one step. To add an
object store, write one module with a class that has the methods of `buckets.Bucket` (`s3.py` is an example), and add
its scheme to `buckets.SCHEMES`. The tests in `tests/components/storage/` then run on it once `tests/emulator.py` has
an emulator for it.
"""
