"""Sends events with the CloudEvents SDK in all three modes and reads them back from the stream, as a service would.

Arguments: the door's URL for a topic, and a token.
"""

import json
import sys
import urllib.error
import urllib.request

from cloudevents.conversion import to_binary, to_dict, to_structured
from cloudevents.http import CloudEvent, from_json

URL, TOKEN = sys.argv[1:]
AUTHORIZATION = {"authorization": f"Bearer {TOKEN}"}


def send(headers, body):
    request = urllib.request.Request(URL, data=body, headers={**headers, **AUTHORIZATION}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["published"]


def main():
    binary = CloudEvent(
        {"type": "order.placed", "source": "/shop", "id": "b", "subject": "seven", "datacontenttype": "application/json"},
        {"order": 7},
    )
    structured = CloudEvent({"type": "order.paid", "source": "/shop", "id": "s", "subject": "Straße 7", "rootid": "b", "parentid": "b"}, {"paid": True})
    raw = CloudEvent({"type": "order.sent", "source": "/shop", "id": "r", "datacontenttype": "image/png"}, b"\x89PNG\xff")
    batch = [CloudEvent({"type": "order.closed", "source": "/shop", "id": f"c{n}"}, n) for n in range(1, 4)]

    assert send(*to_binary(binary))[0]["sequence"] == "1"
    assert send(*to_binary(binary))[0]["duplicate"], "the same event twice is one"
    assert send(*to_structured(structured))[0]["sequence"] == "2"
    assert send(*to_structured(raw))[0]["sequence"] == "3"
    body = json.dumps([to_dict(event) for event in batch]).encode()
    sent = send({"content-type": "application/cloudevents-batch+json"}, body)
    assert [one["sequence"] for one in sent] == ["4", "5", "6"], sent

    try:
        send({"content-type": "application/cloudevents+json"}, b'{"specversion": "1.0", "id": "1"}')
        raise AssertionError("an event without a source was taken")
    except urllib.error.HTTPError as error:
        assert error.code == 400, error.code

    received = []
    request = urllib.request.Request(f"{URL}?from=1", headers={"accept": "text/event-stream", **AUTHORIZATION})
    with urllib.request.urlopen(request, timeout=30) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                received.append(from_json(line[len(b"data: "):]))
            if len(received) == 6:
                break
    for sent, got in zip([binary, structured, raw, *batch], received, strict=True):
        for name in ["id", "source", "type", "time", "subject", "rootid", "parentid"]:
            if name in sent:
                assert got[name] == sent[name], (name, got[name], sent[name])
        assert got.data == sent.data, (got.data, sent.data)

    last = {"accept": "text/event-stream", "last-event-id": "5", **AUTHORIZATION}
    with urllib.request.urlopen(urllib.request.Request(URL, headers=last), timeout=30) as stream:
        assert next(line for line in stream if line.startswith(b"id: ")) == b"id: 6\n"


main()
