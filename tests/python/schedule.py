"""An independent simulation of a trace: users with the fewest jobs first, the largest GPU first.

    schedule.py TRACE

prints where and when each job runs, as `sleap-rtc plugin simulate TRACE --schedule FILE` writes it with the
built-in policies. It shares no code with that program, and is written from the documentation: the rules of
`largest-gpu`, `requirements`, `linear-estimate` and `fewest-running`, and those of `plugins/README.md` for simulations.
"""

import heapq
import json
import math
import sys

ENDED, ARRIVED = 0, 1
PIPELINE = {
    "single_instance": "base",
    "bottomup": "base",
    "multi_class_bottomup": "base",
    "centroid": "topdown",
    "centered_instance": "topdown",
    "multi_class_topdown": "topdown",
}


class Worker:
    def __init__(self, line):
        properties = line.get("properties", {})
        self.id = line["peer_id"]
        self.gpus = [gpu["memory_mib"] for gpu in properties.get("gpus", [])]
        count = properties.get("max_concurrent_jobs", 1)
        self.slots = line.get("slots") or [list(range(i, len(self.gpus), count)) for i in range(count)]
        self.speed = line.get("speed", 1.0)
        self.types = properties.get("supported_job_types", ["training", "inference"])
        self.models = properties.get("supported_models", [])
        # Slots with the most GPU memory are used first.
        self.order = sorted(range(len(self.slots)), key=lambda slot: -self.memory(self.slots[slot]))
        self.running = {}  # slot: expected end
        self.users = {}  # slot: user
        self.waiting = []  # jobs, in the order of their arrival

    def memory(self, gpus):
        return max((self.gpus[gpu] for gpu in gpus), default=0)

    def free(self):
        return [slot for slot in self.order if slot not in self.running]

    def rank(self):
        """The default selection's order: the largest GPU, then fewer jobs, then the name."""
        return (-max(self.gpus, default=0), len(self.running), self.id)

    def takes(self, job, gpus):
        """The default compatibility check."""
        if self.types and job["job_type"] not in self.types:
            return False
        if self.memory(gpus) < needs(job):
            return False
        return all(covers(self.models, model) for model in job.get("model_types", []))

    def could_get(self):
        """The GPUs of the free slots; all of them if no slot is free."""
        free = self.free()
        return {gpu for slot in free for gpu in self.slots[slot]} if free else range(len(self.gpus))

    def line(self, now):
        """The default order: the user with the fewest running jobs each time that a slot becomes free."""
        seconds = lambda ms: -(-max(ms, 0) // 1000)
        slots = [(seconds(self.running[slot] - now), self.users[slot]) for slot in sorted(self.running)]
        time, waiting, line = 0, list(self.waiting), []
        while waiting:
            while len(slots) >= len(self.slots):
                first = min(slots, key=lambda slot: slot[0])
                slots.remove(first)
                time = max(time, first[0])
            users = [name for _, name in slots]
            job = min(waiting, key=lambda job: users.count(user(job)))
            waiting.remove(job)
            slots.append((time + seconds(estimate(job)), user(job)))
            line.append(job)
        return line

    def expected_start(self, now):
        ends = [max(now, self.running.get(slot, now)) for slot in range(len(self.slots))]
        heapq.heapify(ends)
        for job in self.waiting:
            heapq.heapreplace(ends, ends[0] + estimate(job))
        return ends[0]


def user(job):
    return job.get("user") or job["id"]


def needs(job):
    return job.get("requirements", {}).get("min_gpu_memory_mb", 0)


def covers(listed, model):
    known = set(PIPELINE) | {"base", "topdown"}
    words = (model, "base", PIPELINE.get(model))
    return not listed or any(word in words or word not in known for word in listed)


def estimate(job):
    """The default estimate, in milliseconds."""
    minutes = 60.0
    if job["job_type"] == "training" and "epochs" in job:
        minutes = job["epochs"] * 0.5
    if job["job_type"] == "inference" and "frame_count" in job:
        minutes = job["frame_count"] / 100.0
    return math.floor(minutes * 60_000 + 0.5)


class Simulation:
    def __init__(self, workers, jobs):
        self.workers, self.jobs, self.result = workers, jobs, [None] * len(jobs)
        # At the same time, ends come first.
        self.events = [(job["at"], ARRIVED, place, 0) for place, job in enumerate(jobs)]
        heapq.heapify(self.events)

    def run(self):
        while self.events:
            now, kind, first, second = heapq.heappop(self.events)
            if kind == ARRIVED:
                self.arrive(now, self.jobs[first])
            else:
                worker = self.workers[first]
                del worker.running[second], worker.users[second]
                self.fill(now, worker)
        return self.result

    def ranked(self, job, workers):
        fit = [w for w in workers if (not w.types or job["job_type"] in w.types)]
        fit = [w for w in fit if max(w.gpus, default=0) >= needs(job)]
        return sorted(fit, key=Worker.rank)

    def arrive(self, now, job):
        for worker in self.ranked(job, [w for w in self.workers if w.free()]):
            if worker.takes(job, worker.could_get()):
                return self.start(now, job, worker)
        # It waits where it should start first; among equals where the ranking says.
        places = sorted(self.ranked(job, self.workers), key=lambda worker: worker.expected_start(now))
        for worker in places:
            if worker.takes(job, range(len(worker.gpus))):
                return worker.waiting.append(job)
        self.result[job["place"]] = {"id": job["id"], "refused": True}

    def start(self, now, job, worker):
        slot = worker.free()[0]
        worker.running[slot] = now + estimate(job)
        worker.users[slot] = user(job)
        end = now + math.floor(job["duration"] / worker.speed + 0.5)
        heapq.heappush(self.events, (end, ENDED, self.workers.index(worker), slot))
        self.result[job["place"]] = {
            "id": job["id"], "worker": worker.id, "slot": slot, "start_ms": now, "end_ms": end,
        }

    def fill(self, now, worker):
        """Starts what waits, as far as it fits the slots that are free."""
        while worker.free():
            fits = (job for job in worker.line(now) if worker.takes(job, worker.could_get()))
            job = next(fits, None)
            if job is None:
                return
            worker.waiting.remove(job)
            self.start(now, job, worker)


def read(path):
    workers, jobs = [], []
    for line in open(path, encoding="utf-8"):
        line = json.loads(line)
        if "worker" in line:
            workers.append(Worker(line["worker"]))
        if "job" in line:
            jobs.append(line["job"])
    for job in jobs:
        job["at"], job["duration"] = round(job["at_s"] * 1000), round(job["duration_s"] * 1000)
    jobs.sort(key=lambda job: job["at"])
    for place, job in enumerate(jobs):
        job["place"] = place
    return workers, jobs


if __name__ == "__main__":
    for result in Simulation(*read(sys.argv[1])).run():
        print(json.dumps(result))
