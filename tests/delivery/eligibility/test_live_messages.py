"""The cache of live messages in a process that forks."""

import os
import threading

from delivery import process


def test_fork_finds_the_locks_of_the_caches_free_although_another_thread_held_them():
    holds, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with process.live_messages_lock, process.renderings_lock:
            holds.set()
            ended.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(20)
    child = os.fork()
    if child == 0:
        locks = (process.live_messages_lock, process.renderings_lock)
        os._exit(0 if all(lock.acquire(blocking=False) for lock in locks) else 1)
    _, status = os.waitpid(child, 0)
    ended.set()
    thread.join()

    assert status == 0
