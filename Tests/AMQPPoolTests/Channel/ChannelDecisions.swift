import NIOCore
import Testing

@testable import AMQPPool

/// What the suites about a channel's decisions have in common.
protocol ChannelDecisions {}

extension ChannelDecisions {
    typealias Action = ChannelStateMachine.Action

    func make(waiting: Int = 2, unconfirmed: Int = 10) -> ChannelStateMachine {
        ChannelStateMachine(
            maximumUnconfirmed: unconfirmed,
            maximumWaitingOperations: waiting,
            maximumIncomingMessageSize: 100
        )
    }

    func opened(confirming: Bool = false, waiting: Int = 2, unconfirmed: Int = 10) -> ChannelStateMachine {
        var machine = make(waiting: waiting, unconfirmed: unconfirmed)
        _ = machine.run { $0.perform(1000, .channelOpen, &$1) }
        _ = machine.receive(.channelOpenOK)
        if confirming {
            _ = machine.run { $0.perform(1001, .confirmSelect, &$1) }
            _ = machine.receive(.confirmSelectOK)
        }
        return machine
    }

    func declare(_ name: String) -> Method { .queueDeclare(QueueDeclare(queue: name)) }
    func declared(_ name: String) -> Method {
        .queueDeclareOK(queue: name, messageCount: 0, consumerCount: 0)
    }

    func consumer(noAck: Bool = false) -> ChannelConsumer {
        .init(noAck: noAck, onDelivery: { _ in }, onCancel: {})
    }

    func deliver(_ tag: String = "t", _ deliveryTag: UInt64 = 1) -> Method {
        .basicDeliver(
            consumerTag: tag,
            deliveryTag: deliveryTag,
            redelivered: false,
            exchange: "",
            routingKey: "q"
        )
    }

    func publish(
        _ name: String,
        mandatory: Bool = true,
        to outcomes: Recorder<String> = Recorder()
    ) -> Publish {
        Publish(
            exchange: "",
            routingKey: name,
            mandatory: mandatory,
            body: ByteBuffer(string: name),
            outcome: { outcomes.append("\(name) \($0.name)") }
        )
    }
}

extension ChannelStateMachine {
    mutating func run(_ input: (inout ChannelStateMachine, inout [Action]) -> Void) -> [Action] {
        var actions: [Action] = []
        input(&self, &actions)
        return actions
    }

    mutating func execute(_ input: (inout ChannelStateMachine, inout [Action]) -> Void) {
        for action in run(input) { action.execute() }
    }

    mutating func receive(_ method: Method) -> [Action] {
        run { $0.receive(method, &$1) }
    }

    mutating func receiveMessage(_ method: Method, body: String = "") -> [Action] {
        run { machine, actions in
            machine.receive(method, &actions)
            machine.receiveHeader(bodySize: UInt64(body.utf8.count), .success(MessageProperties()), &actions)
            if !body.isEmpty { machine.receiveBody(ByteBuffer(string: body), &actions) }
        }
    }
}

extension ChannelStateMachine.Action {
    func execute() {
        if case .settle(let settlement) = self { settlement.deliver() }
    }
}

extension PublishOutcome {
    var name: String { String("\(self)".prefix { $0 != "(" }) }
}

extension [ChannelStateMachine.Action] {
    var names: [String] {
        map { action in
            switch action {
            case .send(.basicReject(_, requeue: true)): "basic.reject requeue"
            case .send(let method): method.name
            case .complete(let id, .success(.method)): "\(id) ok"
            case .complete(let id, .success(.message)): "\(id) message"
            case .complete(let id, .failure(let error)): "\(id) \(error.name)"
            case .settle: "settle"
            case .deliver: "deliver"
            case .consumerCancelled: "cancelled"
            case .deliveryRefused: "refused"
            case .handOverRefused: "refused to consumer"
            case .returnUnmatched: "unmatched"
            case .sealed: "sealed"
            case .closed(let error): "closed \(error.name)"
            case .released: "released"
            case .failConnection: "fail"
            }
        }
    }
}

extension AMQPError {
    /// The name of the case.
    var name: String {
        switch self {
        case .channelClosed: "channelClosed"
        case .connectionClosed: "connectionClosed"
        default: Mirror(reflecting: self).children.first?.label ?? ""
        }
    }
}

extension ChannelStateMachine {
    /// One message is about to be written.
    mutating func published(_ publish: Publish) { published([.publish(publish)]) }

    var acceptsPublish: Bool { publishRoom > 0 }
}
