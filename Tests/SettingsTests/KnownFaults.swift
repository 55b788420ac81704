/// Settings that are known to trap, to hang or to be misunderstood, and are not tried before that is mended.
enum KnownFaults {
    static let names: Set<String> = [
        "Chaos.storm#kills",
        "ConsumerConfiguration.concurrency",
        "ConsumerConfiguration.drainTimeout",
        "ConsumerConfiguration.retryBackoff",
        "PoolConfiguration.backoff",
        "PoolConfiguration.channelShutdown",
        "ConnectionConfiguration.maximumIncomingMessageSize",
        "ConnectionConfiguration.maximumUnconfirmed",
        "LiveTree.settled#within",
        "PartitionSupervisor.init#partitions",
        "PoolConfiguration.channelsPerConnection",
        "PoolConfiguration.connections",
        "AMQPPool.init#channelsPerConnection",
        "AMQPPool.init#connections",
        "RPCRetry.idempotent",
    ]
}
