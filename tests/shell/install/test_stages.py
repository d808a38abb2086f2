"""The installer's stages: parallel, with deadlines; a failure names its stage and the fix."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from datetime import datetime
from pathlib import Path

from tests.integration.lab import wait_for
from tests.shell.install.fakehost import BOOTSTRAP, Host

MEET = """
touch "$STUB_STATE/$BETA9_STAGE.started"
wait_for 60 "the other stage" test -e "$STUB_STATE/{other}.started"
"""


def test_stages_that_do_not_need_each_other_run_at_the_same_time(host: Host) -> None:
    # Each waits for the other: if they ran one after the other, neither would end.
    steps = host.steps(
        left=("", 60, MEET.format(other="right")),
        right=("", 60, MEET.format(other="left")),
        after=("left right", 60, 'say "both were started"'),
    )
    done = host.install("--steps", str(steps))
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in host.timeline["stages"]}
    assert rows["right"]["started_s"] < rows["left"]["started_s"] + rows["left"]["seconds"]
    assert rows["after"]["started_s"] >= max(
        r["started_s"] + r["seconds"] for n, r in rows.items() if n != "after"
    )
    assert rows["after"]["needs"] == ["left", "right"]


def test_the_timeline_is_world_readable_json(host: Host) -> None:
    done = host.install(
        "--steps", str(host.steps(one=("", 60, ":"), two=("one", 60, 'skip "nothing to do"')))
    )
    assert done.returncode == 0
    timeline = host.timeline
    assert (timeline["version"], timeline["result"]) == (1, "ok")
    assert (timeline["failed_stage"], timeline["fix"]) == (None, None)
    assert datetime.fromisoformat(timeline["started_at"]) <= datetime.fromisoformat(timeline["finished_at"])
    assert [(row["name"], row["result"]) for row in timeline["stages"]] == [("one", "ok"), ("two", "skipped")]
    assert (host.root / "var/lib/beta9-worker/bootstrap.json").stat().st_mode & 0o777 == 0o644
    assert "one after the other" in host.console_text()


def test_a_stage_that_hangs_is_killed_at_its_deadline_with_its_children(host: Host) -> None:
    hang = """
    (trap "" TERM; echo "$BASHPID" >"$STUB_STATE/deaf"; while :; do sleep 1; done) &
    echo "$!" >"$STUB_STATE/child"
    while :; do sleep 1; done
    """
    done = host.install(
        "--steps", str(host.steps(hangs=("", 2, hang), never=("hangs", 60, 'touch "$STUB_STATE/ran"')))
    )
    assert done.returncode == 1, done.stderr
    assert "FAILED in stage 'hangs': it did not finish within its deadline of 2 s" in host.console_text(), (
        done.stderr
    )
    for name in ("deaf", "child"):
        pid = int((host.state / name).read_text())
        assert not running(pid), f"{name} is still running"
    assert not (host.state / "ran").exists()


def test_a_failure_names_the_stage_the_reason_and_the_fix(host: Host) -> None:
    steps = host.steps(fails=("", 60, 'fail "the moon is too low" "wait for the night"'))
    done = host.install("--steps", str(steps))
    assert done.returncode == 1
    timeline = host.timeline
    assert (timeline["result"], timeline["failed_stage"]) == ("failed", "fails")
    assert timeline["fix"] == "wait for the night"
    assert "FAILED in stage 'fails': the moon is too low" in host.console_text()
    assert "fix: wait for the night" in host.console_text()


def test_an_unexpected_failure_names_its_line_and_the_fix_of_the_header(host: Host) -> None:
    done = host.install("--steps", str(host.steps(fails=("", 60, 'local secret=hush\ncat "/$secret/none"'))))
    assert done.returncode == 1
    assert (
        """FAILED in stage 'fails': 'cat "/$secret/none"' failed with exit code 1 (10-fails.sh, line"""
        in host.console_text()
    )
    assert host.timeline["fix"] == "repair it"


def test_a_failure_kills_the_other_running_stages(host: Host) -> None:
    fails = 'wait_for 60 "the other" test -e "$STUB_STATE/pid"; fail "no"'
    lasts = 'echo $$ >"$STUB_STATE/pid.new"; mv "$STUB_STATE/pid.new" "$STUB_STATE/pid"; while :; do sleep 1; done'
    done = host.install("--steps", str(host.steps(fails=("", 60, fails), lasts=("", 600, lasts))))
    assert done.returncode == 1
    assert not running(int((host.state / "pid").read_text()))
    assert [row["name"] for row in host.timeline["stages"] if row["result"] == "failed"] == ["fails"]


def test_on_failure_poweroff_powers_off_after_the_reason(host: Host) -> None:
    host.write_settings(BETA9_ON_FAILURE="poweroff")
    done = host.install("--steps", str(host.steps(fails=("", 60, 'fail "no disk"'))))
    assert done.returncode == 1
    assert host.calls("systemctl")[-1] == "--no-block poweroff"
    assert host.console_text().index("no disk") < host.console_text().index("powering off")
    assert host.timeline["result"] == "failed"


def test_on_failure_poweroff_applies_if_worker_env_cannot_be_parsed(host: Host) -> None:
    host.env_file.write_text("BETA9_ON_FAILURE=poweroff\nBETA9_POOL_NAME='never closed\n")
    assert host.install().returncode == 1
    assert host.calls("systemctl")[-1] == "--no-block poweroff"
    assert host.timeline["failed_stage"] == "settings"


def test_a_bug_in_the_installer_itself_follows_the_failure_policy(host: Host) -> None:
    tree = host.directory / "tree"
    shutil.copytree(BOOTSTRAP, tree)
    stages = tree / "lib/stages.sh"
    # An unset variable ends bash without running the ERR trap.
    stages.write_text(
        stages.read_text().replace("start_ready() {", 'start_ready() {\n  : "$nobody_set_this"', 1)
    )
    host.write_settings(BETA9_ON_FAILURE="poweroff")
    done = host.bash(tree / "install.sh", "--env-file", str(host.env_file))
    assert done.returncode == 1
    assert "FAILED in stage 'installer'" in host.console_text()
    assert host.calls("systemctl")[-1] == "--no-block poweroff"
    assert not list(host.directory.glob("beta9-bootstrap.*"))


def test_a_machine_with_a_running_agent_is_not_powered_off(host: Host) -> None:
    host.write_settings(BETA9_ON_FAILURE="poweroff")
    steps = host.steps(fails=("", 60, 'systemctl start beta9-worker.service; fail "no"'))
    assert host.install("--steps", str(steps)).returncode == 1
    assert "--no-block poweroff" not in host.calls("systemctl")
    assert "not powered off" in host.console_text()


def test_by_default_the_machine_is_left_running(host: Host) -> None:
    assert host.install("--steps", str(host.steps(fails=("", 60, 'fail "no"')))).returncode == 1
    assert host.calls("systemctl") == []
    assert "left running and keeps accruing charges" in host.console_text()


def test_one_reboot_and_then_on_from_there(host: Host) -> None:
    asks = '[[ -e $STUB_STATE/driver ]] || { touch "$STUB_STATE/driver"; reboot "the driver is new"; }'
    steps = host.steps(driver=("", 60, asks), last=("driver", 60, 'touch "$STUB_STATE/last"'))
    first = host.install("--steps", str(steps))
    assert first.returncode == 0
    assert host.calls("systemctl")[-2:] == ["enable --quiet beta9-worker-resume.service", "--no-block reboot"]
    assert host.timeline["result"] == "rebooting"
    assert not (host.state / "last").exists()
    unit = (host.root / "etc/systemd/system/beta9-worker-resume.service").read_text()
    assert f'ExecStart=/bin/bash "{BOOTSTRAP}/install.sh" --env-file "{host.env_file}"' in unit
    began = host.timeline["started_at"]

    host.boot("00000000-0000-0000-0000-000000000002")
    assert host.install("--steps", str(steps)).returncode == 0
    timeline = host.timeline
    assert (timeline["result"], timeline["started_at"]) == ("ok", began)
    assert [row["name"] for row in timeline["stages"]] == ["driver", "driver", "last"]
    assert not (host.root / "var/lib/beta9-worker/bootstrap/resume").exists()


def test_a_stage_that_asks_for_a_second_reboot_has_failed(host: Host) -> None:
    steps = host.steps(driver=("", 60, 'reboot "still not loaded"'))
    assert host.install("--steps", str(steps)).returncode == 0
    host.boot("00000000-0000-0000-0000-000000000002")
    assert host.install("--steps", str(steps)).returncode == 1
    assert "requests a second reboot: still not loaded" in host.console_text()
    assert host.calls("systemctl").count("--no-block reboot") == 1


def test_unknown_and_cyclic_dependencies_are_refused(host: Host) -> None:
    unknown = host.install("--steps", str(host.steps(one=("nobody", 60, ":"))))
    assert unknown.returncode == 1
    assert "needs 'nobody', which does not exist" in unknown.stderr
    circle = host.install("--steps", str(host.steps(one=("two", 60, ":"), two=("one", 60, ":"))))
    assert circle.returncode == 1
    assert "depend on each other in a cycle" in host.console_text()


def test_a_signal_ends_the_installer_and_its_stages(host: Host) -> None:
    host.write_settings()
    lasts = 'echo $$ >"$STUB_STATE/pid.new"; mv "$STUB_STATE/pid.new" "$STUB_STATE/pid"; while :; do sleep 1; done'
    steps = host.steps(lasts=("", 600, lasts))
    with subprocess.Popen(
        ["bash", str(BOOTSTRAP / "install.sh"), "--env-file", str(host.env_file), "--steps", str(steps)],
        env=host.environment(),
        stderr=subprocess.DEVNULL,
    ) as installer:
        wait_for("the stage", (host.state / "pid").exists, 60)
        installer.send_signal(signal.SIGTERM)
        assert installer.wait(60) == 1
    pid = int((host.state / "pid").read_text())
    wait_for("the stage to be killed", lambda: not running(pid), 30)
    assert host.timeline["result"] == "failed"


def test_a_dry_run_shows_the_plan_and_changes_nothing(host: Host) -> None:
    host.write_settings()
    before = host.files()
    done = host.install("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "k3s-files" in done.stdout
    assert host.settings["BETA9_TOKEN"] not in done.stdout + done.stderr
    assert host.files() == before


def test_no_step_is_missing_from_the_real_plan() -> None:
    names = {path.stem[3:] for path in (BOOTSTRAP / "steps").glob("[0-9][0-9]-*.sh")}
    assert {"preflight", "storage", "docker", "firewall", "k3s", "manifests", "secrets", "agent"} <= names


def test_every_character_is_escaped_for_json(host: Host) -> None:
    text = 'quote " backslash \\ tab\t newline\n bell\a umlaut ä'
    script = f'. {BOOTSTRAP}/lib/timeline.sh; json_text "$TEXT"'
    done = subprocess.run(
        ["bash", "-c", script],
        env={**host.environment(), "TEXT": text, "LC_ALL": "C"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == text.replace("\a", "")


def test_a_line_that_arrives_in_two_pieces_is_read_as_one(host: Host) -> None:
    """On an overloaded machine the read can time out in the middle of a line."""
    script = f"""
        . {BOOTSTRAP}/lib/stages.sh
        mkfifo "$TMPDIR/ended" && exec {{ENDED}}<>"$TMPDIR/ended"
        printf 'gpu-dev' >&"$ENDED"
        if next_ended; then exit 1; fi
        printf 'ices\\t0\\nfabric\\t10\\n' >&"$ENDED"
        for _ in 1 2; do next_ended && echo "$name $code"; done
    """
    done = subprocess.run(
        ["bash", "-c", script], env=host.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["gpu-devices 0", "fabric 10"]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
