"""Publish a finished run on the Hugging Face Hub: adapter, tokenizer, model card, results and settings.

    python scripts/push_to_hub.py outputs/grpo_mixed --hub_model_id you/workflow-designer --dry_run
    python scripts/push_to_hub.py outputs/grpo_mixed --hub_model_id you/workflow-designer --private
    python scripts/push_to_hub.py outputs/merged --hub_model_id you/workflow-designer-7b     # scripts/merge_adapter.py

The same files as `--push_to_hub` on a recipe gives. The token comes from HF_TOKEN or `hf auth login`. Rollouts,
held-out rows, checkpoints, optimizer states and logs stay here. The same command again sends only what is missing. Exit
code: 0 when it is on the Hub, 1 when the Hub refused or could not be reached, 2 for bad usage.
"""

import argparse
import sys
from pathlib import Path

from rich.filesize import decimal

from recipes.hub.publication import Publication
from recipes.hub.publish import check_login, publish
from recipes.hub.staging import files_of, read_run, stage
from recipes.run.command import CommandParser, run_command


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="folder of a finished run, or of a merged model")
    parser.add_argument("--hub_model_id", required=True, metavar="YOU/NAME", help="the model's name on the Hub")
    parser.add_argument("--private", action="store_true", help="if the repository is new, only you can see it")
    parser.add_argument(
        "--base_model", metavar="NAME", help="the adapter's base on the Hub; a local base goes along otherwise"
    )
    parser.add_argument("--license", metavar="ID", help="license id of the Hub, e.g. apache-2.0 [the base model's]")
    parser.add_argument(
        "--include_rollouts", action="store_true", help="publish rollouts.jsonl and heldout.jsonl, questions and all"
    )
    parser.add_argument("--dry_run", action="store_true", help="only write RUN_DIR/hub, the folder to upload")
    return parser.parse_args()


def main() -> None:
    """Stage, and push unless it is a dry run."""
    arguments = parse_arguments()
    publication = Publication(
        hub_model_id=arguments.hub_model_id,
        private=arguments.private or None,
        include_rollouts=arguments.include_rollouts,
        base_model=arguments.base_model,
        license=arguments.license,
    )
    run = read_run(arguments.run_dir)
    if not run.config:
        print(f"warning: {run.folder} has no config.yaml: its settings will not be published", file=sys.stderr)
    if not arguments.dry_run:
        check_login()
        print(f"pushed to {publish(arguments.run_dir, publication)}")
        return
    folder = stage(run, publication)
    for name in files_of(folder):
        print(f"{decimal((folder / name).stat().st_size):>12}  {folder / name}")


if __name__ == "__main__":
    sys.exit(run_command(main))
