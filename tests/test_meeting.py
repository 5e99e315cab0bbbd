"""Processes meet, hear from each other, and are told what goes wrong instead of waiting for ever."""

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from processes import free_address

from brainseg_keras.errors import InputError, TrainingError
from brainseg_keras.training import Devices
from brainseg_keras.training.meeting import meet


def together(count, task, *, wait=20, indices=None):
    """Let processes, here threads, meet and do something; gives what each returned or raised."""
    address, indices = free_address(), list(range(count)) if indices is None else indices

    def attend(index):
        try:
            with meet(Devices(1, address, processes=count, index=index), wait=wait) as meeting:
                return task(meeting, index)
        except (InputError, TrainingError) as error:
            return error

    with ThreadPoolExecutor(len(indices)) as pool:
        return list(pool.map(attend, indices))


def test_each_hears_what_all_have_told_in_their_order():
    def task(meeting, index):
        return [meeting.exchange({"index": index, "words": "ü\n"}), meeting.exchange([index * 1.5, None])]

    expected = [[{"index": index, "words": "ü\n"} for index in range(3)], [[0.0, None], [1.5, None], [3.0, None]]]
    assert together(3, task) == [expected] * 3


def test_they_agree_where_jax_shall_meet():
    first, second = together(2, lambda meeting, index: meeting.address)
    host, port = first.rsplit(":", 1)
    assert first == second and host == "127.0.0.1"
    with socket.create_server((host, int(port))):
        pass


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("error", [InputError, TrainingError])
def test_what_one_fails_at_all_are_told(failing, error):
    def task(meeting, index):
        if index == failing:
            raise error("the disk is full")
        return meeting.exchange(index)

    for index, found in enumerate(together(3, task)):
        words = "the disk is full" if index == failing else f"Process {failing} stopped: the disk is full"
        assert type(found) is error and str(found) == words


def test_a_process_that_is_killed_is_missed_at_once():
    address = free_address()
    code = (
        "import sys, time\n"
        "from brainseg_keras.training import Devices\n"
        "from brainseg_keras.training.meeting import meet\n"
        "meeting = meet(Devices(1, sys.argv[1], processes=2, index=1))\n"
        "print(meeting.exchange('here'), flush=True)\n"
        "time.sleep(60)\n"
    )
    with (
        subprocess.Popen([sys.executable, "-c", code, address], stdout=subprocess.PIPE, text=True) as other,
        meet(Devices(1, address, processes=2, index=0), wait=30) as meeting,
    ):
        assert meeting.exchange("first") == ["first", "here"]
        assert other.stdout.readline() == "['first', 'here']\n"
        threading.Timer(0.3, other.kill).start()
        with pytest.raises(TrainingError, match=r"^Process 1 ended .* start all processes again, with --resume"):
            meeting.exchange("again")


def test_of_two_with_one_index_the_second_is_told_and_the_right_one_may_still_come():
    address, done = free_address(), {}

    def attend(name, index):
        try:
            with meet(Devices(1, address, processes=3, index=index), wait=20) as meeting:
                done[name] = meeting.exchange(name)
        except InputError as error:
            done[name] = str(error)

    threads = [threading.Thread(target=attend, args=case) for case in (("zero", 0), ("one", 1))]
    for thread in threads:
        thread.start()
    while "double" not in done or "came" in done["double"]:
        # Until the first of them is in, this one may be the first.
        time.sleep(0.3)
        attend("double", 1)
    assert done["double"] == (
        "There is a process 1 already. Give each one a --process-index of its own; still missing: 2."
    )
    attend("two", 2)
    for thread in threads:
        thread.join()
    assert done["zero"] == done["one"] == done["two"] == ["zero", "one", "two"]


def test_a_second_process_0_finds_the_port_taken():
    address = free_address()
    host, port = address.split(":")
    words = r"Process 0 cannot listen at .*second process with --process-index 0"
    with socket.create_server((host, int(port))), pytest.raises(InputError, match=words):
        meet(Devices(1, address, processes=2, index=0), wait=1)


def test_a_coordinator_of_another_machine_cannot_be_listened_at():
    # An address for documentation, RFC 5737: no machine's own.
    with pytest.raises(InputError, match="an address of the machine of process 0"):
        meet(Devices(1, "192.0.2.1:3456", processes=2, index=0), wait=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_where_no_coordinator_is_the_others_say_so_in_time(host):
    address, begun = f"{host}:{free_address().split(':')[1]}", time.monotonic()
    with pytest.raises(InputError, match=rf"There is no process 0 at {address} .*--processes 2 --process-index 0"):
        meet(Devices(1, address, processes=2, index=1), wait=0.5)
    assert time.monotonic() - begun < 20, "it waited for ever"


def test_who_is_missing_is_said_to_all_who_came():
    found = together(4, None, wait=2, indices=[0, 2])
    assert [str(error) for error in found] == [str(found[0])] * 2
    assert "2 of 4 processes came to 127.0.0.1" in str(found[0]) and "missing: 1, 3." in str(found[0])


def test_processes_that_were_told_of_other_numbers_are_refused():
    address = free_address()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(meet, Devices(1, address, processes=2, index=0), wait=3)
        with pytest.raises(InputError, match="Process 0 was told of 2 processes and process 1 of 3"):
            meet(Devices(1, address, processes=3, index=1), wait=3)
        with pytest.raises(InputError, match="missing: 1"):
            first.result()


def test_a_stranger_at_the_door_does_no_harm():
    address = free_address()

    def disturb():
        host, port = address.split(":")
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"index": "x", "processes": 2}\n', b""):
            while True:
                try:
                    with socket.create_connection((host, int(port)), timeout=5) as stranger:
                        stranger.sendall(words)
                        stranger.shutdown(socket.SHUT_WR)
                        stranger.recv(100)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, Devices(1, address, processes=2, index=0), wait=20)
        disturb()
        second = meet(Devices(1, address, processes=2, index=1), wait=20)
        with first.result() as one, second as two:
            answer = pool.submit(one.exchange, "one")
            assert two.exchange("two") == ["one", "two"] == answer.result()
