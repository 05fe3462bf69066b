"""``VisualTokenSource``: a video's visual tokens, stored or perceived, with the same numbers."""

from dataclasses import asdict
from typing import Any

import torch

from vidreason.perception.config import PerceiverConfig
from vidreason.perception.perceiver import (
    Perceiver,
    build_perceiver,
    perceiver_fingerprint,
    shown_tokens,
)
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.store.config import StoreConfig
from vidreason.store.feature_store import FeatureKey, FeatureStore
from vidreason.video.reader import GUARDED, VideoReader


class VisualTokenSource:
    """Returns visual tokens when called; builds the perceiver when some are first missing.

    May be pickled: a DataLoader worker gets its own store index and builds its own perceiver, if it
    needs one. Such workers run torch on one thread each, so that they do not compete for cores.

    Args:
        perceiver: What is to be seen in a video.
        store: Where it is kept; with an empty path nothing is.
        device: Where perception runs. A forked worker cannot use CUDA: perceive ahead of training,
            or in this process.
        reader: Reads the videos.
    """

    def __init__(
        self,
        perceiver: PerceiverConfig,
        store: StoreConfig,
        device: torch.device | str = "cpu",
        reader: VideoReader = GUARDED,
    ) -> None:
        self.config = perceiver
        self.device = torch.device(device)
        self.reader = reader
        self.store = FeatureStore(store) if store.path else None
        self.num_perceived = 0
        """Videos that this process has perceived, because the store did not have them."""
        self._perceiver: Perceiver | None = None
        self.weights_hashes: dict[str, str] = {}
        """Content hashes of the perceiver's weights by location; empty without a store."""
        # Not at the first call: weights may be gigabytes, and workers get it with the pickle.
        self._fingerprint = ""
        if self.store is not None:
            self._fingerprint = perceiver_fingerprint(perceiver, self._known_hash)

    def __call__(
        self, media: str, start_seconds: float | None = None, end_seconds: float | None = None
    ) -> VisualTokens:
        """The visual tokens of a video file or a span of it, as the reasoner is shown them.

        Raises:
            VideoReadError: The file cannot be read or decoded, and is not in the store.
            ValueError: It is not in the store, and the perceiver's weights are missing or not those
                that were there when this source was made.
            FeatureStoreError: A shard of the store is damaged, or cannot be written.
        """
        return shown_tokens(self._all_tokens(media, start_seconds, end_seconds), self.config)

    def _all_tokens(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        """Without regard to ``kept_objects``: what the store holds, or will."""
        if self.store is None:
            return self._perceive(media, start_seconds, end_seconds)
        key = self.key(media, start_seconds, end_seconds)
        stored = self.store.get(key)
        if stored is not None:
            return stored
        tokens = self._perceive(media, start_seconds, end_seconds)
        described = asdict(self.config)
        del described["kept_objects"]  # the fingerprint does not stand for it
        self.store.describe(self._fingerprint, described)
        return self.store.put(key, tokens)

    def key(
        self, media: str, start_seconds: float | None = None, end_seconds: float | None = None
    ) -> FeatureKey:
        """The store's key for a span of a video under this configuration; needs a store.

        The video need not be there if its content was ever hashed for this store.

        Raises:
            VideoReadError: The file cannot be read, and was never hashed.
        """
        assert self.store is not None
        video_hash = self.store.media.content_hash(media, self.reader)
        return FeatureKey(video_hash, start_seconds, end_seconds, self._fingerprint)

    def _perceive(
        self, media: str, start_seconds: float | None, end_seconds: float | None
    ) -> VisualTokens:
        if self._perceiver is None:
            # A model that takes minutes to load would only say the same.
            self.reader.identify(media)
            self._check_weights(media)
            self._perceiver = build_perceiver(self.config, self.device, self.reader)
        self.num_perceived += 1
        return self._perceiver.perceive(media, start_seconds, end_seconds)

    def _known_hash(self, location: str) -> str:
        assert self.store is not None
        self.weights_hashes[location] = self.store.weights.content_hash(location)
        return self.weights_hashes[location]

    def _check_weights(self, media: str) -> None:
        """Refuse weights that the key does not stand for: what they see would be stored under it.

        Raises:
            ValueError: They are not there, or are others.
        """
        if self.store is None:
            return
        missing = f"the store in {str(self.store.folder)!r} has no tokens of {media!r}, and"
        try:
            fingerprint = perceiver_fingerprint(self.config, self.store.weights.present_hash)
        except ValueError as error:
            raise ValueError(f"{missing} it cannot be perceived: {error}") from error
        if fingerprint != self._fingerprint:
            raise ValueError(
                f"{missing} the perceiver's weights ({', '.join(self.weights_hashes)}) are not "
                "those that the run has begun with: put those back, or start it again"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Built anew where it is needed: a pickle is not to carry the weights.
        return self.__dict__ | {"_perceiver": None}
