"""Node features from text and media: encoders, templates, the cache, projections. One line per registered encoder.

A text encoder is made as `Encoder(settings)`. `identity()` returns JSON-able values that change whenever its vectors would,
`encode(texts, task)` returns float32 (n, F) and `fitted` says whether `fit(texts)` must come first (TF-IDF). A file
encoder takes paths of images or sound files in the place of texts.

Everywhere in this room a row of zeros means "not given": an empty text, an item without a picture. It is kept apart by
`graphrec.features.project.given` and never taken for a value.
"""

from __future__ import annotations

TEXT_ENCODERS: dict[str, str] = {
    "wordllama": "graphrec.features.text_wordllama:WordLlamaEncoder",
    "tfidf": "graphrec.features.text_tfidf:TfidfEncoder",
    "transformers": "graphrec.features.text_transformers:TransformersEncoder",
}

FILE_ENCODERS: dict[str, str] = {
    "image": "graphrec.features.media_files:ImageEncoder",
    "audio": "graphrec.features.media_files:AudioEncoder",
}
