"""Prose: the sentences of docs/benchmarks.md that no number changes. Used by report. Pure."""

from __future__ import annotations

HEAD = """\
# Benchmarks

Hermes beside servers that people use for the same, on the same work, in the same run, on the same machine. The numbers,
tables, verdicts and pictures are made by a program from what was measured; why a goal is missed is written by hand,
from profiles (`bench/causes.py`). The numbers of a machine of your own come from

```sh
make bench         # everything, three rounds
make bench-quick   # one short round, within three minutes
python -m bench --scenario fanout-gentle --only hermes,nchan --rounds 3      # parts
python -m bench.report var/bench/<time>.json                                 # this page
python -m bench.report --out var/page var/bench/<time>.json                  # in another folder
```

`make bench` needs Linux, two cores and what `make test` needs. Peers that are not installed are named, with the reason.
"""

METHOD = """\
## How it is measured

- **One core for the server.** It is pinned to core 0 with all it starts. Everything else shares core 1: Redis
  (Valkey), SQS and DynamoDB (the embedded engines), the publisher and the load client. Each run has an empty Redis and
  a new server; gentle and saturated fan-out are one run, in this order.
- **The whole product.** Hermes runs as `manage.py serve` with authentication, history, registry, mirror and
  back-pressure on. In the fan-outs its messages enter by the door that the relay uses, in batches of up to ten, as they
  fall due; in *relay* and *end to end* they come through SQS, and the relay shares the server's core.
- **Publishing is not on the measured core for everybody.** In the fan-outs the publisher's process, on core 1, does for
  Hermes what a relay does: it checks a message, appends it to the history and sends the hint. Socket.IO and plain
  Channels are published to over Redis by the same process, in the way that their own emitters have. Nchan's POST
  requests and Centrifugo's HTTP API are served by their servers, on core 0, and are in their CPU. What publishing costs
  Hermes is in *relay* and *end to end*, where all of it is on core 0. For a room of 2,000 it is little for anybody: one
  message is 2,000 deliveries; in *many rooms* it is one for 5.
- **Everything that arrives is checked.** Each room's messages are numbered from 1, and each socket must get each once
  and in order; what comes through SQS, whose standard queues promise no order, must come once. A run in which one
  message of one socket is lost, doubled or out of order is wrong, and named. It counts as zero: in its medians and in
  the verdicts it has the worst number that there is. Of sockets whose latency is not taken, nineteen of twenty in
  *saturated fan-out*, each piece that TCP delivers is compared byte for byte with what the room's others got.
- **CPU** is the server's user and system time, of its whole process tree, from the first publish to the last delivery.
  What the kernel does for its sockets in interrupts while the server itself sleeps is not in it, for nobody.
- **Latency** is from the publisher's stamp in the message to the client's callback, by one clock, over all deliveries
  (of one socket in twenty in *saturated fan-out*). It includes the time that one load process needs to read all those
  sockets. That is the same for all but Centrifugo, which puts several messages into one frame: the load client
  divides those in Python, of all its sockets and in every scenario, and that time is in Centrifugo's latencies.
- **End to end** is told from the return of SendMessage, and from before the call. The second is what a back end
  waits for in all, and has the SQS endpoint's own time in it, which is the same for both.
- **Strangers** are other programs on the server's core. A turn in which they had more than a tenth of it is taken once
  more, and named if that stays so.
- **Rounds are interleaved**: each contestant in its turn, another one first in each round. A number is the median of
  the rounds, with the lowest and the highest good one in brackets. Of fewer than three good runs their number is said,
  and no goal is judged by them.
- **≥** stands where a number is bounded by something else than the server: where the load client's core was full in
  most rounds, and, with *all of the offer*, where it delivered 97 % or more of what the plan asks for, so that nobody
  can tell how much more it could have done.
- A frame has some 240 bytes, whatever envelope a contestant puts around the payload.
"""

GROWTH = """\
An entry to n sockets costs a + n · b: what a message costs by itself, and n deliveries. Both are fitted by weighted
least squares to every good run of a sweep, each run by its share of what its size costs; intervals are of 95 %
confidence. Of so few messages a second a is more than a message's work: what the process does by itself between two of
them is in it. Whether a delivery grows dearer is asked of a second fit, in which it costs b + c · log₁₀(n ÷ smallest),
so that what a message costs by itself is taken off and c is what each tenfold adds. The exponents are of log–log lines
through the server's CPU a second against the number of sockets, rooms or messages: 1 is in proportion. The last step is
judged by itself as well, because a line through all sizes hides a bend at the end.
"""
