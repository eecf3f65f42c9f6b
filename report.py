"""Write outputs/report/index.html from the runs: python report.py (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from engine.entry_point import answers, enter


@hydra.main(version_base="1.3", config_path="conf", config_name="report")
@answers
def main(config: DictConfig) -> None:
    from reports.views import report

    report(config)


if __name__ == "__main__":
    enter(main, ["view", "port", "every", "entity", "project", "output_dir"])
