"""Whether the features that a run file configures are those that its model reads, and are in the store as configured."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from graphrec.errors import ConfigError, shell_word
from graphrec.features.settings import FeaturesSettings, TextFeature
from graphrec.features.write import recorded_text
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_NO_MATTER = {"device", "batch_size", "download"}  # of an encoder's settings: they change no vector


def check_configured(
    settings: FeaturesSettings,
    used: Collection[str],
    model: str,
    keys: Collection[str],
    store: GraphStore,
    progress: Reporter = SILENT,
) -> None:
    """Refuse a run file with a feature that would not count, or that the store holds as something else.

    A model that can read no features is trained all the same, with a note: there is nothing that its settings could mend.

    Args:
        settings: the `[features]` section.
        used: the features that the model reads, such as "item.text" (`Recommender.features_used`).
        model: its name, for messages.
        keys: of its settings: those that read features have `inputs` or `modalities`.
        store: the store that it is trained on.
        progress: told of features that the model cannot read.

    Raises:
        ConfigError: a feature is configured and not used, or the store's was made with other settings.
        StoreError: the store is damaged.
    """
    sections = {f"item.{name}": f"[features.item.{name}]" for name in settings.item}
    sections |= {f"user.{name}": f"[features.user.{name}]" for name in settings.user}
    sections |= {f"item.{name}": f"[features.media.{name}]" for name in settings.media}
    if sections and not {"inputs", "modalities"} & set(keys):
        progress.note(f"{model} reads no features: {', '.join(sections.values())} of the run file does not count here")
        return
    for feature, section in sections.items():
        if feature not in used:
            ntype, name = feature.split(".", 1)
            mend = f'modalities = ["{name}"]'
            if ntype == "user" or "modalities" not in keys:
                item = '"..."' if ntype == "user" else f'"{name}"'  # inputs of features want some of items
                mend = f'inputs = {{name = "id+features", item = [{item}]' + (f', user = ["{name}"]}}' if ntype == "user" else "}")
            raise ConfigError(
                f"{section} is configured, and the model {model} does not use it; name it among what the model reads, such as {mend}, "
                f"or take the section out (--set features.{section.split('.')[1]}={{}})"
            )
    for ntype, features in (("item", settings.item), ("user", settings.user)):
        for name, feature in features.items():
            if name in store.features(ntype):
                _check_same(store, ntype, name, feature)


def _check_same(store: GraphStore, ntype: str, name: str, feature: TextFeature) -> None:
    recorded = _values(recorded_text(store, ntype, name)[0])
    changed = [f"{key} is {recorded.get(key)!r} there" for key, value in _values(feature).items() if recorded.get(key) != value]
    if changed:
        raise ConfigError(
            f"[features.{ntype}.{name}] is not how the store {store.folder} made {ntype}.{name}: {'; '.join(changed)}; make it "
            f"again with: graphrec features {shell_word(store.folder)} --config FILE"
        )


def _values(feature: TextFeature) -> dict[str, Any]:
    """What its vectors depend on."""
    values = feature.model_dump(mode="json", exclude={"keywords"})
    encoder = {key: value for key, value in values.pop("encoder").items() if key not in _NO_MATTER}
    return values | {f"encoder.{key}": value for key, value in encoder.items()}
