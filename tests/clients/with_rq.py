"""RQ with a server as its queue: with_rq.py PORT PROTOCOL.

A thousand jobs for several workers: most succeed, some fail at first and are tried again, some fail for good, some run out of their time, some wait
for others. Each must have run exactly as often as it should have, and be found where RQ says it is. Prints one line, or fails.

What of RQ needs scripts (its scheduler, unique jobs, rate limits) is left out.
"""

import logging
import multiprocessing
import sys
import time

import redis
from rq import Queue, Retry, SimpleWorker, Worker
from rq.job import Job, JobStatus

PLAIN, FLAKY, HOPELESS, DEPENDENT, FORKED = 900, 60, 20, 12, 8
SLOW_PLAIN, SLOW_FORKED = 3, 2


def ran(port, name):
    """How often it was tried, this time included."""
    return redis.Redis(port=port).hincrby("ran", name, 1)


def plain(port, number):
    ran(port, f"plain {number}")
    return number * 2


def flaky(port, number):
    if ran(port, f"flaky {number}") < 3:
        raise RuntimeError("not yet")
    return "at last"


def hopeless(port, number):
    ran(port, f"hopeless {number}")
    raise RuntimeError("never")


def dependent(port, number):
    ran(port, f"dependent {number}")
    return int(redis.Redis(port=port).hget("ran", f"plain {number}"))


def slow(port, number):
    ran(port, f"slow {number}")
    time.sleep(30)


def work(port, options, names, kind):
    logging.disable(logging.CRITICAL)
    connection = redis.Redis(port=port, **options)
    worker = kind([Queue(name, connection=connection) for name in names], connection=connection)
    worker.work(burst=True, with_scheduler=False)


def main():
    port, protocol = int(sys.argv[1]), sys.argv[2]
    options = {} if protocol == "default" else {"protocol": int(protocol)}
    logging.disable(logging.CRITICAL)
    connection = redis.Redis(port=port, **options)
    connection.flushall()
    queue, forked = Queue("jobs", connection=connection), Queue("forked", connection=connection)

    def add(to, function, number, **more):
        return to.enqueue(f"with_rq.{function}", port, number, **more)

    jobs = {"plain": [], "flaky": [], "hopeless": [], "dependent": [], "slow": []}
    with connection.pipeline() as pipeline:
        prepared = [Queue.prepare_data("with_rq.plain", args=(port, number)) for number in range(PLAIN - 100)]
        jobs["plain"] += queue.enqueue_many(prepared, pipeline=pipeline)
        pipeline.execute()
    jobs["plain"] += [add(queue, "plain", number) for number in range(PLAIN - 100, PLAIN)]
    jobs["flaky"] = [add(queue, "flaky", number, retry=Retry(max=3)) for number in range(FLAKY)]
    jobs["hopeless"] = [add(queue, "hopeless", number, retry=Retry(max=1)) for number in range(HOPELESS)]
    jobs["dependent"] = [
        add(queue, "dependent", number, depends_on=jobs["plain"][number]) for number in range(DEPENDENT)
    ]
    jobs["slow"] = [add(queue, "slow", number, job_timeout=1) for number in range(SLOW_PLAIN)]
    jobs["plain"] += [add(forked, "plain", PLAIN + number) for number in range(FORKED)]
    jobs["slow"] += [add(forked, "slow", SLOW_PLAIN + number, job_timeout=1) for number in range(SLOW_FORKED)]
    assert sum(map(len, jobs.values())) >= 1000

    # One canceled, and one deleted, before anybody takes them.
    canceled, deleted = add(queue, "plain", 5000), add(queue, "plain", 5001)
    canceled.cancel()
    deleted.delete()
    assert canceled.get_status() == JobStatus.CANCELED and not Job.exists(deleted.id, connection=connection)

    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(port, options, ["jobs"], SimpleWorker)) for _ in range(2)]
    workers.append(context.Process(target=work, args=(port, options, ["forked", "jobs"], Worker)))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert worker.exitcode == 0, worker.exitcode
    # A worker may find nothing to do just before a failed job is put back; what is left then is for one more.
    work(port, options, ["jobs", "forked"], SimpleWorker)

    times = {name.decode(): int(count) for name, count in connection.hgetall("ran").items()}
    expected = {"plain": 1, "flaky": 3, "hopeless": 2, "dependent": 1, "slow": 1}
    for kind, all_jobs in jobs.items():
        for number, job in enumerate(all_jobs):
            assert times.pop(f"{kind} {number}") == expected[kind], (kind, number)
            status = job.get_status(refresh=True)
            fails = kind in ("hopeless", "slow")
            assert status == (JobStatus.FAILED if fails else JobStatus.FINISHED), (kind, number, status)
    assert not times, times
    assert [job.return_value() for job in jobs["plain"]] == [number * 2 for number in range(PLAIN + FORKED)]
    assert {job.return_value() for job in jobs["flaky"]} == {"at last"}
    assert [job.return_value() for job in jobs["dependent"]] == [1] * DEPENDENT
    assert all("never" in job.latest_result().exc_string for job in jobs["hopeless"])
    assert all("Timeout" in job.latest_result().exc_string for job in jobs["slow"])
    for name, of in (("jobs", queue), ("forked", forked)):
        assert len(of) == 0 and of.started_job_registry.count == 0 and of.deferred_job_registry.count == 0, name
    failed = {job for of in (queue, forked) for job in of.failed_job_registry.get_job_ids()}
    assert failed == {job.id for kind in ("hopeless", "slow") for job in jobs[kind]}
    assert queue.canceled_job_registry.get_job_ids() == [canceled.id]
    assert Worker.all(connection=connection) == []
    print(f"rq over RESP {protocol}: {sum(map(len, jobs.values()))} jobs, as expected")


if __name__ == "__main__":
    main()
