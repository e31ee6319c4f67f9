"""`histo-mlflow promote`: the gate before `models:/NAME@champion`."""

from __future__ import annotations

import json
from typing import Literal

import click

from histo_mlflow.cli.options import finished_run_options, not_empty


@click.command()
@click.argument("reference", required=False, metavar="[RUN_ID|MODEL_ID]")
@click.option(
    "--name",
    required=True,
    callback=not_empty,
    help="Of the registered model, such as histo-ham10000; made with its first version.",
)
@click.option(
    "--metric",
    default="auc",
    show_default=True,
    help="What decides: auc, average_precision, accuracy, balanced_accuracy, f1, log_loss, "
    "brier, ece, ...",
)
@click.option(
    "--margin",
    default=0.005,
    show_default=True,
    type=float,
    help="The lower end of the gain's 95 % interval must lie above minus this; 0 asks for proof "
    "that the model is better.",
)
@click.option(
    "--min-groups",
    default=30,
    show_default=True,
    type=int,
    help="Fewest groups (lesions, slides, patients) among the compared images.",
)
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "val"]),
    help="Whose images decide. val chose the best epoch of each run, so it flatters.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Promote although the gate says no; recorded. Not past a run that did not end well, or a "
    "model folder that is altered or another run's.",
)
@click.option(
    "--allow-synthetic",
    is_flag=True,
    help="Let models through that were trained on made-up labels; recorded.",
)
@click.option(
    "--expect",
    metavar="VERSION",
    default=None,
    callback=not_empty,
    help="Refuse unless the champion is this version now (or none). Also goes on from an alias "
    "that was moved by hand.",
)
@click.option("--rollback", is_flag=True, help="Go back to the champion before.")
@click.option(
    "--to", metavar="VERSION", type=int, default=None, help="With --rollback: to this one."
)
@click.option("--status", is_flag=True, help="Show the champion and every decision so far.")
@click.option(
    "--adopt",
    is_flag=True,
    help="Take over a registered model that was not made by this command, with its aliases.",
)
@click.option("--dry-run", is_flag=True, help="Say what would come of it; write nothing.")
@finished_run_options("the decision")
def promote(
    reference: str | None,
    name: str,
    metric: str,
    margin: float,
    min_groups: int,
    split: Literal["test", "val"],
    force: bool,
    allow_synthetic: bool,
    expect: str | None,
    rollback: bool,
    to: int | None,
    status: bool,
    adopt: bool,
    dry_run: bool,
    tracking_uri: str | None,
    runs_dir: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a model the champion, models:/NAME@champion, if the evidence is for it.

    Named by its run or its own id, the model is held against the champion on the images that both
    held out, whole groups resampled, the same ones for both. It is promoted if its metric is no
    lower than the champion's and the interval of the gain lies above minus the margin. It is
    refused, with all reasons, if it is worse, if the two cannot be compared, if it has no
    calibration, if its split leaks or look-alikes cross it, if labels are made up, if its code is
    not known, or if its run did not end well. The first champion is compared with nobody.

    A model that only the comparison speaks against is registered as models:/NAME@challenger.
    Every decision is kept: in the ledger (--status), as tags of the version and of the run, and as
    a file. Of several who promote at once one wins, and the others are told.
    """
    from histo_mlflow.jobs import promote_text as text
    from histo_mlflow.jobs import roll_back as back
    from histo_mlflow.jobs.promote import promote as promote_model
    from histo_mlflow.jobs.talk import Talk
    from histo_mlflow.promotion.gate import Rules

    if (reference is not None) + rollback + status != 1:
        raise click.UsageError("give one of RUN_ID, MODEL_ID, --rollback and --status")
    if to is not None and not rollback:
        raise click.UsageError("--to goes with --rollback")
    talk = Talk(quiet=quiet)
    if status:
        seen = back.status(name, tracking_uri=tracking_uri, runs_dir=runs_dir)
        click.echo(json.dumps(seen.to_dict(), indent=2) if as_json else text.render_status(seen))
        return
    if reference is None:
        done = back.roll_back(
            name,
            to=to,
            expect=expect,
            dry_run=dry_run,
            tracking_uri=tracking_uri,
            runs_dir=runs_dir,
            talk=talk,
        )
        click.echo(json.dumps(done.to_dict(), indent=2) if as_json else text.render_rollback(done))
        return
    found = promote_model(
        reference,
        name=name,
        rules=Rules(metric, margin, min_groups, force, allow_synthetic),
        split=split,
        expect=expect,
        adopt=adopt,
        dry_run=dry_run,
        tracking_uri=tracking_uri,
        runs_dir=runs_dir,
        talk=talk,
    )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else text.render(found))
    if (refusal := found.refusal()) is not None:
        raise refusal
