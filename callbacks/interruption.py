"""An interruption takes effect after a batch."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback

from foundation.interruption import check


class Interruption(Callback):
    """Ends the training or scoring after the batch in which the process was asked to end."""

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        check()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        check()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        check()
