"""Jobs in this process, item by item, so that a test sees all that they do; no Ray."""


def handle(jobs, todo, name):
    for number, job in enumerate(jobs):
        items = [item for of, item in todo if of == number]
        handler = job.build() if items else None
        for item in items:
            notes = {}
            job.parts.commit(item, handler(job.plan.rows(item), notes), notes)
    return 0.0
