"""From settings to a running agent, and back to an exit code."""

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
from agent.core.text.redaction import Redactor
from agent.errors import AgentError, ExitCode, SettingsError, TransientError
from agent.observability import logs, status_server
from agent.observability.logs import EventLog
from agent.runtime.agent import Agent
from agent.runtime.identity import instance_id
from agent.settings import Settings

AGAIN_S = 5.0
"""Pause before starting anew what failed for a reason that may pass (no place for a private file)."""


def start(settings: Settings, *, rejoin: bool = False) -> ExitCode:
    """Run the agent to its end. Whatever goes wrong is logged; the exit code says what to do about it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the agent itself takes signals there is nothing to say goodbye to.
        signal.signal(number, _leave)
    redactor = Redactor()
    written = logs.setup(settings.log_format or "auto", settings.log_level, redactor)
    log = logs.get_logger()
    try:
        return _run_at_last(settings, redactor, log, rejoin)
    except AgentError as error:
        log.error("stopped", text=str(error), exit_code=int(error.exit_code))  # noqa: TRY400 - expected: no traceback
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the top of the process: a bug ends it, said in full
        log.error("bug", error=error, exit_code=int(ExitCode.BUG))  # noqa: TRY400 - `error` brings the traceback
        return ExitCode.BUG
    finally:
        written.close()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(int(ExitCode.OK))


def _run_at_last(settings: Settings, redactor: Redactor, log: EventLog, rejoin: bool) -> ExitCode:
    """Only with --once does what may heal end the process; a service is there to wait for it."""
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
    state, without = _open_state(settings)
    if without:
        log.warning("state_dir", text=without)
    try:
        if not _may_come_back(settings, state, log, rejoin):
            return ExitCode.OK
        credentials = Credentials(settings, private_directory(state), redactor)
        agent = Agent(settings, state, credentials, log, {"state": without} if without else {})
        return _work(agent, log)
    finally:
        state.unlock()


def _work(agent: Agent, log: EventLog) -> ExitCode:
    settings = agent.settings
    endpoint = status_server.StatusServer(
        settings.status_addr,
        agent.status,
        agent.supervisor.is_live,
        agent.is_ready,
        clean=agent.credentials.redactor.clean,
    )
    no_endpoint = endpoint.start()
    if no_endpoint:
        log.warning("status_server", text=no_endpoint)
        agent.degraded["status_server"] = no_endpoint
    log.info(
        "starting", machine_id=agent.config.machine_id, pool=settings.pool_name, version=agent.config.version
    )
    _tell_of_boot(settings, log)
    try:
        code = agent.run()
    finally:
        endpoint.stop()
    decided = agent.supervisor.exit
    level = log.info if code is ExitCode.OK else log.error
    level("ended", exit_code=int(code), why=decided.reason if decided else "")
    return code


def _tell_of_boot(settings: Settings, log: EventLog) -> None:
    """One line with where the time until now went, on machines that the bootstrap has set up."""
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
    """The state directory, locked, and what is wrong with it: a full or read-only disk is no reason to stay away.

    Raises: SettingsError where another agent is in it, or where it can never work.
    """
    try:
        state = StateDir.open(settings.state_dir)
        _wait_for_lock(state, settings.policy.conflict_s)
    except TransientError as error:
        return StateDir(Path(settings.state_dir)), f"going on without what would be kept there: {error}"
    return state, ""


def _may_come_back(settings: Settings, state: StateDir, log: EventLog, rejoin: bool) -> bool:
    """A machine that was told to go stays away until somebody says otherwise.

    Another machine made from its disk was told nothing: it starts clean.
    """
    marker = state.read_stop()
    if marker is None:
        return True
    is_another = bool(marker.instance_id) and instance_id(settings) not in {"", marker.instance_id}
    if rejoin or is_another:
        log.info("rejoins", why="another machine was told to leave" if is_another else "asked to")
        try:
            state.clear_stop()
        except TransientError as error:
            log.warning("stop_marker", text=str(error))
        return True
    log.info(
        "stays_away", why=marker.reason, text="told to leave; 'beta9-worker run --rejoin' brings it back"
    )
    return False


def _wait_for_lock(state: StateDir, conflict_s: float) -> None:
    """Become the only agent in this state directory, waiting for one that is just leaving.

    Raises: SettingsError naming the other's pid.
    """
    deadline_s = time.monotonic() + conflict_s
    pause = threading.Event()
    while (holder := state.try_lock()) is not None:
        if time.monotonic() >= deadline_s:
            raise SettingsError(
                f"another agent (pid {holder}) holds {state.path}; stop it, or give this one its own BETA9_STATE_DIR"
            )
        pause.wait(0.2)
