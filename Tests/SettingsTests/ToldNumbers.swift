/// Numbers that are public but no settings, and why.
enum ToldNumbers {
    static let places: [String: String] = [
        // What the library tells. Nothing of ours reads them.
        "AbandonedChild": "what is left of a child",
        "ChannelInfo": "the broker's word",
        "ChaosReport": "a report",
        "ChildCounts": "a count",
        "ConnectionInfo": "the broker's word",
        "ConsumerInfo": "the broker's word",
        "Delivery": "the broker's word",
        "ExitStatus": "how a process ended",
        "LocalBrokerCluster.QueuePlace": "the broker's word",
        "QueueInfo": "the broker's word",
        "QueueStatus": "the broker's word",
        "RPCCallerCounts": "a count",
        "RPCReceiverCounts": "a count",
        "SupervisionEvent": "what happened",
        "SupervisionTree": "a picture of the tree",
        // A value of any size is right, and nothing is done with it but to compare and print it.
        "BrokerValue": "the broker's word",
        "BrokerVersion.major": "tried through init",
        "BrokerVersion.minor": "tried through init",
        "BrokerVersion.patch": "tried through init",
        // Tried together with what it stands for.
        "Fault.broker#for": "hands its faults the duration",
        "Fault.brokerKilled#for": "waits as networkStalled does",
        "Fault.brokerPaused#for": "waits as networkStalled does",
        "Fault.connectionsRefused#for": "tried with networkStalled",
        "Fault.memoryAlarm#for": "waits as networkStalled does",
        "Fault.network#for": "tried with networkStalled",
        "Fault.networkHalfOpen#for": "tried with networkStalled",
        "Fault.networkSlow#for": "tried with networkStalled",
        "Fault.nodeKilled#for": "waits as networkStalled does",
        "LocalBroker.closeChannel#number": "a number for the broker to look up",
        "LocalBroker.setLimit#value": "a number for the broker to judge",
    ]
}
