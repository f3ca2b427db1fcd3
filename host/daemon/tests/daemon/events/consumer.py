"""Consumes a subscription through a WebSocket with the library `websockets`, as a service would.

Arguments: the door's URL for the subscription `billing` of a topic with events 1 to 6, and a token. Prints a line when all is
done but the end, and waits for the daemon to say goodbye.
"""

import json
import sys

from cloudevents.http import from_json
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_through

URL, TOKEN = sys.argv[1:]
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}


def connect(url, **options):
    return connect_through(url, proxy=None, **options)


def refused(url, status, **options):
    try:
        connect(url, **options)
    except InvalidStatus as error:
        assert error.response.status_code == status, error.response
    else:
        raise AssertionError(f"{url} was not refused")


def event(socket):
    text = socket.recv(timeout=30)
    found = from_json(text)
    return found["sequence"], found["deliveryattempt"], found


def say(socket, **verdicts):
    socket.send(json.dumps(verdicts))
    return json.loads(socket.recv(timeout=30))


def main():
    refused(URL, 401)
    refused(URL, 401, additional_headers={"Authorization": "Bearer wrong"})
    refused(URL + "x", 404, additional_headers=AUTHORIZATION)
    refused(URL + "?limit=0", 400, additional_headers=AUTHORIZATION)
    refused(URL + "?consumer=../x", 400, additional_headers=AUTHORIZATION)

    protocols = ["platform.event.v1", f"bearer.{TOKEN}"]
    with connect(URL + "?limit=2", subprotocols=protocols) as socket:
        assert socket.subprotocol == "platform.event.v1", socket.subprotocol
        sequence, attempt, found = event(socket)
        assert (sequence, attempt, found["type"], found["source"]) == ("1", 1, "order.placed", "/shop"), found
        assert found.data == {"order": 1}, found.data
        assert event(socket)[0] == "2"
        try:
            socket.recv(timeout=0.5)
            raise AssertionError("a third delivery came before one was acknowledged")
        except TimeoutError:
            pass
        assert say(socket, ack=["1", 99]) == {"settled": ["1"], "unknown": ["99"]}
        assert event(socket)[0] == "3"
        assert say(socket, extend=["2"]) == {"settled": ["2"], "unknown": []}
        assert say(socket, nak=[2], delayMs=300)["settled"] == ["2"]
        # What follows takes the place that became free; the refused one comes after its delay, when there is room.
        assert event(socket)[0] == "4"
        assert say(socket, ack=["3"])["settled"] == ["3"]
        places = {event(socket)[:2]}
        assert say(socket, reject=["4"], reason="it is no good")["settled"] == ["4"]
        places.add(event(socket)[:2])
        assert places == {("5", 1), ("2", 2)}, places
        for wrong in ["nonsense", "{}", '{"ack": [1.5]}', '{"ack": ["2"], "nak": ["2"]}', '{"reject": ["2"]}', "[" * 10000]:
            socket.send(wrong)
            told = json.loads(socket.recv(timeout=30))
            assert told["error"]["reason"] == "INVALID_VERDICT", told
        assert socket.ping().wait(30)
        assert say(socket, ack=["2", "5"])["settled"] == ["2", "5"]
        assert event(socket)[0] == "6"

    # What nobody said anything of comes again, here after the time for an acknowledgement.
    with connect(URL, additional_headers=AUTHORIZATION) as socket:
        assert event(socket)[:2] == ("6", 2)
        assert say(socket, nak=["6"])["settled"] == ["6"]
        assert event(socket)[:2] == ("6", 3)
        assert say(socket, nak=["6"], delayMs=500)["settled"] == ["6"]
        socket.send("x" * 100_000)
        try:
            socket.recv(timeout=30)
            raise AssertionError("a message that is too large was taken")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed

    with connect(URL, additional_headers=AUTHORIZATION) as socket:
        assert event(socket)[:2] == ("6", 4)
        assert say(socket, ack=["6"])["settled"] == ["6"]
        print("ready", flush=True)
        try:
            socket.recv(timeout=60)
            raise AssertionError("the daemon did not say goodbye")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1001, closed
            assert "shutting down" in closed.rcvd.reason, closed


main()
