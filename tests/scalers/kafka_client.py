"""One action at a Kafka broker: `topic NAME PARTITIONS`, `send NAME PARTITION COUNT`, or `commit GROUP NAME PARTITION OFFSET`."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata


def committed(offset: int):
    # The tuple has grown a field in newer versions of the client.
    fields = len(OffsetAndMetadata._fields)
    return OffsetAndMetadata(*([offset, "", -1][:fields]))


def main(broker: str, action: str, *rest: str):
    if action == "topic":
        name, partitions = rest
        admin = KafkaAdminClient(bootstrap_servers=broker)
        admin.create_topics([NewTopic(name, int(partitions), 1)])
        admin.close()
    elif action == "send":
        name, partition, count = rest
        producer = KafkaProducer(bootstrap_servers=broker)
        for _ in range(int(count)):
            producer.send(name, b"x", partition=int(partition))
        producer.flush()
        producer.close()
    elif action == "commit":
        group, name, partition, offset = rest
        place = TopicPartition(name, int(partition))
        consumer = KafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
        consumer.assign([place])
        consumer.commit({place: committed(int(offset))})
        consumer.close()
    else:
        sys.exit(f"no action {action}")


main(*sys.argv[1:])
