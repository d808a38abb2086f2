"""Runs the agent with the given settings and turns its end into an exit code."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType

from agent.adapters.host.boot_record import boot_of
from agent.adapters.secrets.credentials import Credentials
from agent.adapters.storage.runtime_dir import private_directory
from agent.adapters.storage.state_dir import StateDir
from agent.core.host.boot_record import failure, timeline
from agent.core.lifecycle.exits import AFTERWARDS
from agent.core.text.redaction import Redactor
from agent.errors import AgentError, ExitCode, SettingsError, TransientError
from agent.observability import logs, status_server
from agent.observability.logs import EventLog
from agent.runtime.agent import Agent
from agent.runtime.identity import is_meant_for_another, kept_in_group
from agent.settings import Settings

AGAIN_S = 5.0
"""Pause before another attempt to start after a transient failure (no space for a private file)."""


def start(settings: Settings, *, rejoin: bool = False) -> ExitCode:
    """Run the agent to its end. Every failure is logged; the exit code tells the service manager what to do."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the agent handles signals itself, there is nothing to shut down.
        signal.signal(number, _exit_now)
    redactor = Redactor()
    log_writer = logs.setup(settings.log_format or "auto", settings.log_level, redactor)
    log = logs.get_logger()
    try:
        return _run_with_retries(settings, redactor, log, rejoin)
    except AgentError as error:
        log.error("stopped", text=str(error), **_ending(error.exit_code))  # noqa: TRY400 - expected: no traceback
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the top of the process: a bug ends it
        log.error("bug", error=error, **_ending(ExitCode.BUG))  # noqa: TRY400 - `error` brings the traceback
        return ExitCode.BUG
    finally:
        log_writer.close()


def _exit_now(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(int(ExitCode.OK))


def _run_with_retries(settings: Settings, redactor: Redactor, log: EventLog, rejoin: bool) -> ExitCode:
    """Retry after a transient failure, as a service should; with --once, raise it."""
    for warning in settings.warnings:
        log.warning("setting", text=warning)
    pause = threading.Event()
    while True:
        try:
            return _run(settings, redactor, log, rejoin)
        except TransientError as error:
            if settings.once:
                raise
            log.warning("not_started", text=str(error), again_in_s=AGAIN_S)
        pause.wait(AGAIN_S)


def _run(settings: Settings, redactor: Redactor, log: EventLog, rejoin: bool) -> ExitCode:
    state, fault = _open_state(settings)
    if fault:
        log.warning("state_dir", text=fault)
    try:
        if not _may_start(settings, state, log, rejoin):
            return ExitCode.OK
        credentials = Credentials(settings, private_directory(state), redactor)
        agent = Agent(settings, state, credentials, log, {"state": fault} if fault else {})
        return _serve(agent, log)
    finally:
        state.unlock()


def _serve(agent: Agent, log: EventLog) -> ExitCode:
    settings = agent.settings
    server = status_server.StatusServer(
        settings.status_addr,
        agent.status,
        agent.supervisor.is_live,
        agent.is_ready,
        clean=agent.credentials.redactor.clean,
    )
    fault = server.start()
    if fault:
        log.warning("status_server", text=fault)
        agent.degraded["status_server"] = fault
    log.info(
        "starting",
        machine_id=agent.config.machine_id,
        pool=settings.pool_name,
        connection=settings.connection.value,
        chosen_by=settings.sources["connection"],
        version=agent.config.version,
    )
    _log_bootstrap(settings, log)
    try:
        code = agent.run()
    finally:
        server.stop()
    decision = agent.supervisor.exit
    level = log.info if code is ExitCode.OK else log.error
    level("ended", why=decision.reason if decision else "", **_ending(code))
    return code


def _ending(code: ExitCode) -> dict[str, object]:
    """Return the fields that every last line has: the exit code, and what follows from it."""
    return {"exit_code": int(code), **({"next": AFTERWARDS[code]} if code in AFTERWARDS else {})}


def _log_bootstrap(settings: Settings, log: EventLog) -> None:
    """Log how long the stages of the bootstrap took, if it has set up this machine."""
    boot = boot_of(settings.state_dir)
    if boot is not None:
        level = log.warning if boot.result == "failed" else log.info
        level(
            "bootstrap",
            result=boot.result,
            seconds=round(boot.seconds, 1),
            stages=timeline(boot),
            **({"text": text} if (text := failure(boot)) else {}),
        )


def _open_state(settings: Settings) -> tuple[StateDir, str]:
    """Return the locked state directory and its fault ("": none): the agent also works with a full or read-only disk.

    Raises: SettingsError if another agent uses it, or if it can never work.
    """
    try:
        state = StateDir.open(settings.state_dir)
        _wait_for_lock(state, settings.policy.conflict_s)
    except TransientError as error:
        return StateDir(Path(settings.state_dir)), f"continuing without the state directory: {error}"
    return state, ""


def _may_start(settings: Settings, state: StateDir, log: EventLog, rejoin: bool) -> bool:
    """Return False on a machine that was told to leave, until somebody starts the agent with --rejoin.

    A stop marker that came with a copied disk does not count: it was meant for another instance.
    """
    marker = state.read_stop()
    if marker is None:
        return True
    is_another = is_meant_for_another(marker, settings)
    if rejoin or is_another:
        log.info(
            "rejoins", why="another machine was told to leave" if is_another else "started with --rejoin"
        )
        try:
            state.clear_stop()
        except TransientError as error:
            log.warning("stop_marker", text=str(error))
        return True
    text = "told to leave; 'beta9-worker run --rejoin' brings it back"
    group = kept_in_group(settings)
    log.info("stays_away", why=marker.reason, text=f"{text}; {group}" if group else text)
    return False


def _wait_for_lock(state: StateDir, conflict_s: float) -> None:
    """Take the lock of the state directory, waiting for an agent that is just ending.

    Raises: SettingsError with the other agent's pid.
    """
    deadline_s = time.monotonic() + conflict_s
    pause = threading.Event()
    while (holder := state.try_lock()) is not None:
        if time.monotonic() >= deadline_s:
            raise SettingsError(
                f"another agent (pid {holder}) holds {state.path}; stop it, or give this one its own BETA9_STATE_DIR"
            )
        pause.wait(0.2)
