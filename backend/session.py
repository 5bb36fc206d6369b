"""One training session on one rank: from a job and a run directory to a finished model."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from backend import sequence_parallel, tensor_parallel
from backend.arguments import Arguments
from backend.checkpoints import Checkpoint, Checkpoints, Progress
from backend.console import show_report
from backend.data.prepare import prepare
from backend.data.prepared import Prepared, Split
from backend.deepspeed_config import check_machine, read, resolve, shares_weights, swaps
from backend.deepspeed_engine import SWAPPED, DeepSpeedEngine
from backend.distributed import RowShare, on_main
from backend.ending import end_without, failing, log_to, watched
from backend.engine import Engine, PlainEngine
from backend.errors import REQUEUE_EXIT_CODE, UserError
from backend.files import write_json
from backend.flops import work_of
from backend.heartbeat import watch_hosts
from backend.loop import BoundTuning, Loop, Recorder
from backend.measuring import Meter
from backend.model import as_encoder, checkpoint_activations, load_tokenizer, save_model, tuned_model, with_weights
from backend.objectives import OBJECTIVES
from backend.optimizer import Moved
from backend.phases import Phases
from backend.precision import check as check_precision
from backend.precision import choose
from backend.proof import prove, save_adapter
from backend.rank import Connection
from backend.recorder import RunRecorder, Silent
from backend.rng import seed_rank
from backend.rundir import Owner, RunDir, Status
from backend.sources import model_source
from backend.spec import JobSpec, chosen
from backend.stop_signals import StopSignals
from backend.tasks import TASKS
from backend.tensor_parallel import check_checkpoint, degree
from backend.tokenizer import Tokenizer
from backend.trackers import TRACKERS
from backend.tracking import check
from backend.tuning import TUNINGS
from backend.unread import read_all, unread

log = logging.getLogger("tunewright")


class Setup(NamedTuple):
    """What rank 0 has found out and all ranks need to know."""

    prepared: Prepared
    precision: str
    ds_config: dict[str, Any]
    checkpoint: Checkpoint | None


def train(arguments: Arguments, connection: Connection) -> int:
    """Train a job in its run directory, or in a new one; every rank calls this, and gets its exit code."""
    group = connection.group
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        run = RunDir(on_main(group, lambda: claim(arguments, stack).path))
        status = Status(state="preparing", owner=Owner.me(), started=time.time(), ranks=group.ranks)
        status = status.model_copy(update={"device": str(connection.device)})
        stack.enter_context(watch_hosts(group, lambda peer: end_without(run, peer)))
        with failing(run, group):
            return _train(run, arguments, connection, status, signals)


def claim(arguments: Arguments, stack: ExitStack) -> RunDir:
    """Open or make the run directory, and take the right to write there until the stack closes."""
    run = RunDir(arguments.run) if arguments.run else RunDir.create(arguments.workspace, arguments.job)
    stack.enter_context(run.writing())
    if run.report_file.is_file():
        raise UserError(f"{run.path}: has finished; to train further, start a new run from a copy of its job.json")
    if any(run.checkpoints.glob("step-*")) and not arguments.resume:
        raise UserError(f"{run.path}: has checkpoints already; add --resume to go on from the newest one")
    log_to(run, stack)
    return run


def _train(run: RunDir, arguments: Arguments, connection: Connection, status: Status, signals: StopSignals) -> int:
    job, group, is_main = arguments.job, connection.group, connection.group.rank == 0
    if is_main:
        status = status.model_copy(update={"supervisor": run.stored_status().supervisor})
        run.write_status(status)
    setup = on_main(group, lambda: set_up(run, job, connection))
    progress = setup.checkpoint.progress if setup.checkpoint else Progress()
    with ExitStack() as stack:
        recorder: Recorder = Silent(signals)
        if is_main:
            run.forget_metrics_after(progress.step)
            known = {"precision": setup.precision, "step": progress.step}
            recorder = stack.enter_context(RunRecorder(run, status.model_copy(update=known), progress.step, signals))
        loop = build(run, job, connection, setup, recorder)
        if isinstance(recorder, RunRecorder):
            recorder.write(total_steps=loop.total_steps)
        if setup.checkpoint:
            loop.resume(setup.checkpoint.folder, progress)
            log.info("resumed from step %d", progress.step)
        with watched(run, loop):
            complete = loop.run()
        if complete:
            _finish(run, job, loop, setup, status.started)
        if isinstance(recorder, RunRecorder):
            ended = {"state": "finished"} if complete else {"state": "stopped", "message": _why(signals)}
            recorder.write(step=loop.progress.step, seconds_left=None, **ended)
            run.stop_file.unlink(missing_ok=True)  # it has been heard, and is not meant for the next session
        by_signal = any(group.broadcast(group.gather(signals.received)))
        return REQUEUE_EXIT_CODE if by_signal and not complete else 0


def _why(signals: StopSignals) -> str:
    return f"stopped by {signals.received}; requeue it with --resume" if signals.received else "stopped on request"


def set_up(run: RunDir, job: JobSpec, connection: Connection) -> Setup:
    """Do what one rank does for all: check the job against the machine, and prepare the data."""
    ranks = connection.group.ranks
    check(chosen("trackers", TRACKERS, job.trackers))
    precision, reason = choose(job.precision)
    log.info("precision %s (%s), %d process(es) on %s", precision, reason, ranks, connection.device)
    encoder = _encoder(job)  # which brings a model of the hub here, whose sizes decide about the configuration
    config: dict[str, Any] = {}
    if connection.launched:
        check_precision(precision)
        config = resolve(read(job.deepspeed), job, ranks, precision, run.path / "offload")
        check_machine(config)
        write_json(run.ds_config_file, config)
    else:
        log.info('one process without a launcher trains with plain PyTorch: deepspeed "%s" is not used', job.deepspeed)
    tensor_parallel.check_model(config, job)
    sequence_parallel.check_model(config, job)
    prepared = prepare(job, encoder, run.data, log.info)
    checkpoint = Checkpoints(run.checkpoints, connection.group).latest(log.warning)
    if checkpoint:
        check_checkpoint(checkpoint.folder / "engine", config)
        _check_change(checkpoint, ranks, config)
    return Setup(prepared, precision, config, checkpoint)


def _check_change(checkpoint: Checkpoint, ranks: int, config: dict[str, Any]) -> None:
    """Raise UserError if a checkpoint cannot be shared out anew over another number of ranks."""
    if checkpoint.ranks == ranks:
        return
    if swaps(config) or (checkpoint.folder / "engine" / SWAPPED).is_dir():
        raise UserError(
            f"{checkpoint.folder}: was written by {checkpoint.ranks} process(es), but {ranks} are running, and what "
            f"DeepSpeed keeps on NVMe cannot be shared out anew; start {checkpoint.ranks}"
        )
    log.info("the checkpoint of %d process(es) is shared out over %d; dropout draws anew", checkpoint.ranks, ranks)


def _encoder(job: JobSpec) -> Tokenizer:
    return as_encoder(load_tokenizer(job), model_source(job.model), job.revision)


def build(run: RunDir, job: JobSpec, connection: Connection, setup: Setup, recorder: Recorder) -> Loop:
    """Return the loop of a job, before its first step."""
    task, tuning = TASKS[job.task.name], TUNINGS[job.tuning.name]
    split = {name: Split.open(run.data, name) for name in ("train", "validation")}
    phases = Phases(run.phases_file, connection.group.rank, connection.group.ranks)
    with unread() if shares_weights(setup.ds_config) else nullcontext():
        model = tuned_model(job, setup.prepared)
    if job.schedule.activation_checkpointing:
        checkpoint_activations(model)
    seed_rank(job.seed, RowShare.of(connection.group, degree(setup.ds_config)).rank)
    moved = Moved(job.schedule, tuning.groups(model, job.tuning))
    work = work_of(model, looks_up=tuning.looks_up(job.tuning))  # before ranks share its weights out
    engine: Engine = (
        DeepSpeedEngine(model, moved, setup.ds_config, connection.group)
        if connection.launched
        else PlainEngine(model, moved, setup.precision, connection.device)
    )
    loop = Loop(
        task=task,
        context=setup.prepared.context(_encoder(job)),
        engine=engine,
        schedule=job.schedule,
        train=split["train"],
        validation=split["validation"],
        seed=job.seed,
        checkpoints=Checkpoints(run.checkpoints, connection.group),
        recorder=recorder,
        tuning=BoundTuning(tuning, job.tuning, model),
        meter=Meter(engine, work, setup.precision, phases.enter),
    )
    training = loop.training(run.path / "computed")
    loop.loss = tuning.wrap(loop.loss, job.tuning, training)
    for _, objective, options in chosen("objectives", OBJECTIVES, job.objectives):
        loop.loss = objective.wrap(loop.loss, options, training)
    return loop


def _finish(run: RunDir, job: JobSpec, loop: Loop, setup: Setup, began: float) -> None:
    """Evaluate the best weights on every held-out row, and write the model and the report."""
    loop.take_best()
    validation, _ = loop.evaluate(loop.validation)
    test = None
    if setup.prepared.counts.get("test"):
        test, _ = loop.evaluate(Split.open(run.data, "test"))
    loop.meter.enter("save")
    loop.engine.end()
    weights = loop.engine.weights()
    loop.engine.leave()
    if loop.engine.group.rank != 0:
        return
    with unread():  # what was not trained stays in its file
        model = tuned_model(job, setup.prepared)
    _save(run, job, with_weights(model, weights))
    run.write_report(
        {
            "best_step": loop.progress.best_step,
            "steps": loop.progress.step,
            "seconds": time.time() - began,
            "precision": setup.precision,
            "ranks": loop.engine.group.ranks,
            "data": setup.prepared.model_dump(mode="json"),
            "validation": validation.model_dump(mode="json"),
            "test": test.model_dump(mode="json") if test else None,
        }
    )
    show_report("Test" if test else "Validation", test or validation)
    log.info("finished: the model is in %s", run.model)


def _save(run: RunDir, job: JobSpec, model: PreTrainedModel) -> None:
    """Write the model; and what was added to it by itself, which must make the same model of the pretrained one."""
    tuning = TUNINGS[job.tuning.name]
    if tuning.adds:
        save_adapter(model, job, run.adapter)
        prove(run, job, model)
        log.info("a fresh process makes the same model of %s and the weights in %s", job.model, run.adapter)
    read_all([*model.parameters(), *model.buffers()])
    save_model(tuning.merge(model, job.tuning), load_tokenizer(job), run.model, None if tuning.folds else job.tuning)
