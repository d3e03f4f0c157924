"""The worker process: `python3 -u -m stator._worker`. Private: nothing here is for handlers.

    control    protobuf messages on descriptor 3
    wire       records, as docs/wire.md has them
    loading    finds and imports the handler
    events     events out of records; cloudevents changes them
    results    what a handler gave back, as a reply
    worker     the start, the handler's context, what the processor asks for
    template   imports the handler once and forks workers
    portable   the data plane and the loop in pure Python, over descriptor 4
    __main__   takes the data plane of the add-on stator._native if it is there, else portable

An add-on brings `stator._native.run(worker: worker.Worker) -> None`. It is called when the handler
is loaded and init_context() is over; it sends Ready (worker.send_ready()), moves records, calls
worker.handler, maps what is not trivial with results.to_reply(), and returns when the worker has to
end. Control messages are worker.control.read() whenever descriptor 3 is readable, given to
worker.on_control().
"""
