"""A trained network as one file for other runtimes: python export.py checkpoint=segment-0123456789ab (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from deploy.settings import ExportSettings
from engine.entry_point import keep_user_errors, run_main
from engine.settings import fields, paths


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
@keep_user_errors
def main(config: DictConfig) -> None:
    from deploy.export import export

    export(config)


if __name__ == "__main__":
    run_main(
        main,
        [name for name, _ in fields(ExportSettings)],
        after_interruption="starts again",
        paths=paths(ExportSettings),
    )
