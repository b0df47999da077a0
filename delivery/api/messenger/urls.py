"""URLs of the messenger."""

from delivery.api.messenger.access import MessengerEndpoint
from delivery.api.messenger.conversations import Address, Read, Reply, Thread, Threads
from delivery.api.messenger.devices import Forget, Opened, Register
from delivery.api.messenger.events import MARKS, Mark, TrackEvent
from delivery.api.messenger.ping import Ping

MESSENGER: dict[str, type[MessengerEndpoint]] = {
    "messenger/ping": Ping,
    "messenger/conversations": Threads,
    "messenger/conversations/(?P<pk>[^/]+)": Thread,
    "messenger/conversations/(?P<pk>[^/]+)/reply": Reply,
    "messenger/conversations/(?P<pk>[^/]+)/read": Read,
    f"messenger/messages/(?P<pk>[^/]+)/(?P<mark>{'|'.join(MARKS)})": Mark,
    "messenger/events": TrackEvent,
    "messenger/devices": Register,
    "messenger/devices/forget": Forget,
    "messenger/pushes/opened": Opened,
    "messenger/email": Address,
}
