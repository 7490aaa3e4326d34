"""The first example of the README: from a log to recommendations and exported vectors."""

import graphrec

log = graphrec.read_log("datasets/demo/events.parquet", items="datasets/demo/items.parquet")
store = graphrec.build(log, "stores/quickstart", overwrite=True)
run = graphrec.train(store, "graph-filter", "runs/quickstart", overwrite=True)
print(graphrec.evaluate(run))
print(graphrec.recommend(run, ["u00017"], k=5))
graphrec.export(run, "exports/quickstart", overwrite=True)

again = graphrec.load("runs/quickstart")  # any time later, in any process
print(graphrec.similar(again, ["i00003"], k=5))
