"""Write outputs/report/index.html from the runs: python report.py (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from engine.entry_point import keep_user_errors, run_main


@hydra.main(version_base="1.3", config_path="conf", config_name="report")
@keep_user_errors
def main(config: DictConfig) -> None:
    from reports.views import report

    report(config)


if __name__ == "__main__":
    run_main(main, ["view", "port", "every", "allowed_host", "entity", "project", "output_dir"], paths=("output_dir",))
