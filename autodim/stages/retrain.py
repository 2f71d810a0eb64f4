"""retrain: train the cut model, warm from the uniform one or cold."""

from __future__ import annotations

from pathlib import Path

from autodim import artifact
from autodim.config.schema import Config, ModelConfig
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation, read_widths
from autodim.errors import ConfigError
from autodim.stages.holdout import inputs_of
from autodim.stages.live_state import live_start
from autodim.stages.model_folder import load_network, save_network
from autodim.stages.pretrain import build_log_network, finish, run_result, summary, train_network
from autodim.stages.prune import cost_model, cut_for
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.network import Network
from autodim.training.seeds import derive, generator


def retrain(run: Run, log: EncodedLog, session: Session, widths: Path | None = None) -> None:
    """Train the model of an allocation into RUN/retrain/model. A warm start that no evaluation beats is the result.

    Args:
        widths: a widths file to use instead of the run's own allocation; hand-edited files are welcome.

    Raises:
        ConfigError: a warm mode without a pretrained model to be warm from, or a widths file that does not fit.
    """
    config = run.config
    mode = config.retrain.mode
    allocation = read_allocation(run, log, widths)
    warm = is_warm(config, allocation)
    if mode == "none" and not warm:
        raise ConfigError(
            f"retrain.mode: found none, but a natively uniform model of width {allocation.common} has to be trained; "
            "use retrain.mode=cold"
        )
    inputs = artifact.digest(
        {
            "data": run_result(run, "prepare"),
            "pretrain": run_result(run, "pretrain") if warm or config.retrain.distill else None,
            "allocation": allocation.to_yaml(),
            "model": config.model.model_dump(mode="json"),
            "retrain": config.retrain.model_dump(mode="json"),
            "seed": config.seed,
            **live_inputs(run, allocation, warm),
            **inputs_of(log),
        }
    )
    if run.up_to_date("retrain", inputs):
        session.progress.line("retrain: up to date")
        return
    seed = derive(config.seed, "retrain")
    with run.working("retrain", inputs) as folder:
        artifact.write_text(folder / "widths.yaml", allocation.to_yaml())
        network = start_network(run, log, allocation, warm, seed, session)
        if mode == "none":
            about = load_network(run.need("pretrain") / "model")[1]
            save_network(folder / "model", network, config.model, about["numeric"], about["labels"], {"steps": 0})
            session.progress.line("retrain: none; the cut model is kept as it is")
            return
        teacher = None
        if config.retrain.distill:
            teacher = load_network(run.need("pretrain") / "model", session.device)[0], config.retrain.distill
        live = live_folder(run, allocation) if warm else None
        begin = None if live is None else live_start(live, config.retrain.optimizer, session)
        # a cut is a trained model, unless its first layer was drawn anew
        counts = warm and mode == "warm"
        trained = train_network(network, log, config.retrain, seed, folder, session, teacher, begin, counts)
        finish(folder, network, model_of(config.model, allocation), log, trained)
    session.progress.line(summary("retrain", trained))
    artifact.write_text(run.folder / "widths.yaml", allocation.to_yaml())


def is_warm(config: Config, allocation: Allocation) -> bool:
    """Whether a training begins with a cut of the pretrained model; a natively uniform one of another width cannot."""
    return config.retrain.mode in ("warm", "warm_cold_first", "none") and allocation.common == config.model.width


def read_allocation(run: Run, log: EncodedLog, widths: Path | None) -> Allocation:
    """The allocation to train: a given widths file, or what `prune` wrote."""
    if widths is None:
        return Allocation.from_yaml((run.need("prune") / "widths.yaml").read_text())
    if not widths.is_file():
        raise ConfigError(f"{widths}: not found; expected a widths file (see `autodim export RUN --format widths`)")
    return read_widths(widths, log.slots, log.tables, run.config.model.width, cost_model(run.config))


def start_network(
    run: Run,
    log: EncodedLog,
    allocation: Allocation,
    warm: bool,
    seed: int,
    session: Session,
) -> Network:
    """The network that a retrain begins with: cut from the trained one, or fresh."""
    config = run.config
    if not warm:
        layout = allocation.layout(log.slots, log.tables)
        return build_log_network(model_of(config.model, allocation), layout, log, seed)
    live = live_folder(run, allocation)
    if live is not None:
        return load_network(live / "model", session.device)[0]
    network, _ = load_network(run.need("pretrain") / "model", session.device)
    cut = cut_for(run, network, allocation, log, session)
    if config.retrain.mode == "warm_cold_first":
        cut.model.reset_first(generator(seed, "first"))  # type: ignore[operator]
    return cut


def live_folder(run: Run, allocation: Allocation) -> Path | None:
    """Where the migrated model lies that `refresh` left for these widths: a retrain goes on from it."""
    stage = run.stage("prune")
    if run.config.retrain.mode == "warm_cold_first" or not (stage / "model" / "model.json").is_file():
        return None
    if not artifact.read_json(stage / "model" / "model.json").get("live"):
        return None
    return stage if (stage / "widths.yaml").read_text() == allocation.to_yaml() else None


def live_inputs(run: Run, allocation: Allocation, warm: bool) -> dict[str, str]:
    """What a retrain from migrated optimizer state is made from besides."""
    live = live_folder(run, allocation) if warm else None
    if live is None or not (live / "optimizer").is_dir():
        return {}
    return {"live_state": artifact.fingerprint(live / "optimizer")}


def model_of(model: ModelConfig, allocation: Allocation) -> ModelConfig:
    """The model settings at the allocation's common width."""
    return model.model_copy(update={"width": allocation.common})
