import NIOCore
import Testing

@testable import AMQPPool

@Suite("The channel's decisions")
struct ChannelStateMachineTests {
    typealias Action = ChannelStateMachine.Action

    private func make(waiting: Int = 2, unconfirmed: Int = 10) -> ChannelStateMachine {
        ChannelStateMachine(
            maximumUnconfirmed: unconfirmed,
            maximumWaitingOperations: waiting,
            maximumIncomingMessageSize: 100
        )
    }

    private func opened(confirming: Bool = false, waiting: Int = 2, unconfirmed: Int = 10) -> ChannelStateMachine {
        var machine = make(waiting: waiting, unconfirmed: unconfirmed)
        _ = machine.run { $0.perform(1000, .channelOpen, &$1) }
        _ = machine.receive(.channelOpenOK)
        if confirming {
            _ = machine.run { $0.perform(1001, .confirmSelect, &$1) }
            _ = machine.receive(.confirmSelectOK)
        }
        return machine
    }

    private func declare(_ name: String) -> Method { .queueDeclare(QueueDeclare(queue: name)) }
    private func declared(_ name: String) -> Method {
        .queueDeclareOK(queue: name, messageCount: 0, consumerCount: 0)
    }

    private func consumer(noAck: Bool = false) -> ChannelStateMachine.Consumer {
        .init(noAck: noAck, onDelivery: { _ in }, onCancel: {})
    }

    private func deliver(_ tag: String = "t", _ deliveryTag: UInt64 = 1) -> Method {
        .basicDeliver(
            consumerTag: tag,
            deliveryTag: deliveryTag,
            redelivered: false,
            exchange: "",
            routingKey: "q"
        )
    }

    private func publish(
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

    // MARK: Operations

    @Test("One operation is outstanding at a time; the others follow in order, up to the bound")
    func oneAtATime() {
        var machine = opened(waiting: 2)
        #expect(machine.run { $0.perform(1, declare("a"), &$1) }.names == ["queue.declare"])
        #expect(machine.run { $0.perform(2, declare("b"), &$1) }.isEmpty)
        #expect(machine.run { $0.perform(3, declare("c"), &$1) }.isEmpty)
        #expect(machine.run { $0.perform(4, declare("d"), &$1) }.names == ["4 notSent"])
        #expect(machine.receive(declared("a")).names == ["1 ok", "queue.declare"])
        #expect(machine.receive(declared("b")).names == ["2 ok", "queue.declare"])
        #expect(machine.receive(declared("c")).names == ["3 ok"])
    }

    @Test("The late answer of an abandoned operation is absorbed, and the next one gets its own")
    func lateAnswer() {
        var machine = opened()
        _ = machine.run { $0.perform(1, declare("a"), &$1) }
        _ = machine.run { $0.perform(2, declare("b"), &$1) }
        #expect(machine.run { $0.abandon(1, .cancelled(operation: ""), &$1) }.names == ["1 cancelled"])
        #expect(machine.run { $0.abandon(1, .cancelled(operation: ""), &$1) }.isEmpty)
        #expect(machine.receive(declared("a")).names == ["queue.declare"])
        #expect(machine.receive(declared("b")).names == ["2 ok"])
    }

    @Test("An operation that is abandoned before its turn is never sent")
    func withdrawn() {
        var machine = opened()
        _ = machine.run { $0.perform(1, declare("a"), &$1) }
        _ = machine.run { $0.perform(2, declare("b"), &$1) }
        #expect(machine.run { $0.abandon(2, .cancelled(operation: ""), &$1) }.names == ["2 notSent"])
        #expect(machine.receive(declared("a")).names == ["1 ok"])
    }

    @Test("An answer that nobody asked for is a breach of the protocol")
    func unexpectedAnswer() {
        var machine = opened()
        #expect(machine.receive(declared("a")).names == ["fail"])
        _ = machine.run { $0.perform(1, declare("a"), &$1) }
        #expect(machine.receive(.queueBindOK).names == ["fail"])
    }

    @Test("A consumer that starts after its caller gave up is cancelled, and what it was sent goes back")
    func phantomConsumer() {
        var machine = opened()
        let request = BasicConsume(queue: "q", consumerTag: "t")
        #expect(machine.run { $0.consume(1, request, consumer(), &$1) }.names == ["basic.consume"])
        _ = machine.run { $0.abandon(1, .cancelled(operation: ""), &$1) }
        #expect(machine.receiveMessage(deliver()).names == ["basic.reject requeue"])
        #expect(machine.receive(.basicConsumeOK(consumerTag: "t")).names == ["basic.cancel"])
        #expect(machine.receiveMessage(deliver("t", 2)).names == ["basic.reject requeue"])
        #expect(machine.receive(.basicCancelOK(consumerTag: "t")).isEmpty)
        #expect(machine.run { $0.consume(2, request, consumer(), &$1) }.names == ["basic.consume"])
    }

    @Test("A message that comes for a get whose caller gave up goes back to the queue")
    func lateGet() {
        var machine = opened()
        _ = machine.run { $0.perform(1, .basicGet(queue: "q", noAck: false), &$1) }
        _ = machine.run { $0.abandon(1, .cancelled(operation: ""), &$1) }
        let got = Method.basicGetOK(
            deliveryTag: 1,
            redelivered: false,
            exchange: "",
            routingKey: "q",
            messageCount: 0
        )
        #expect(machine.receiveMessage(got).names == ["basic.reject requeue"])
        _ = machine.run { $0.perform(2, .basicGet(queue: "q", noAck: false), &$1) }
        #expect(machine.receiveMessage(got).names == ["2 message"])
    }

    @Test("An opening that is abandoned is closed, and its number is free when the broker has closed it")
    func abandonedOpen() {
        var machine = make()
        _ = machine.run { $0.perform(1, .channelOpen, &$1) }
        #expect(
            machine.run { $0.abandon(1, .cancelled(operation: ""), &$1) }.names == ["1 cancelled", "channel.close"]
        )
        #expect(machine.receive(.channelOpenOK).isEmpty)
        #expect(machine.receive(.channelCloseOK).names == ["closed channelClosed", "released"])
    }

    // MARK: Content

    @Test("A delivery may come before the answer to consume")
    func earlyDelivery() {
        var machine = opened()
        _ = machine.run { $0.consume(1, BasicConsume(queue: "q", consumerTag: "t"), consumer(), &$1) }
        #expect(machine.receiveMessage(deliver()).names == ["deliver"])
        #expect(machine.receive(.basicConsumeOK(consumerTag: "t")).names == ["1 ok"])
    }

    @Test("A body in several frames is put together")
    func severalFrames() {
        var machine = opened()
        _ = machine.run { $0.consume(1, BasicConsume(queue: "q", consumerTag: "t"), consumer(), &$1) }
        _ = machine.receive(deliver())
        #expect(machine.run { $0.receiveHeader(bodySize: 5, .success(.init()), &$1) }.isEmpty)
        #expect(machine.run { $0.receiveBody(ByteBuffer(string: "he"), &$1) }.isEmpty)
        let actions = machine.run { $0.receiveBody(ByteBuffer(string: "llo"), &$1) }
        guard case .deliver(_, let delivery)? = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(String(buffer: delivery.body) == "hello")
    }

    @Test("Frames of a message in the wrong order, and bodies that are too long, are breaches of the protocol")
    func contentOrder() {
        var machine = opened()
        #expect(machine.run { $0.receiveBody(ByteBuffer(string: "x"), &$1) }.names == ["fail"])
        machine = opened()
        #expect(machine.run { $0.receiveHeader(bodySize: 1, .success(.init()), &$1) }.names == ["fail"])
        machine = opened()
        _ = machine.receive(deliver())
        #expect(machine.receive(.basicAck(deliveryTag: 1, multiple: false)).names == ["fail"])
        machine = opened()
        _ = machine.receive(deliver())
        _ = machine.run { $0.receiveHeader(bodySize: 1, .success(.init()), &$1) }
        #expect(machine.run { $0.receiveBody(ByteBuffer(string: "xy"), &$1) }.names == ["fail"])
    }

    @Test("A delivery whose properties or size are refused is rejected without requeue, and the channel goes on")
    func refusedDelivery() {
        var machine = opened()
        _ = machine.run { $0.consume(1, BasicConsume(queue: "q", consumerTag: "t"), consumer(), &$1) }
        _ = machine.receive(deliver())
        let refused = machine.run { $0.receiveHeader(bodySize: 0, .failure(.nestedTooDeeply), &$1) }
        #expect(refused.names == ["basic.reject", "refused"])
        _ = machine.receive(deliver("t", 2))
        #expect(machine.run { $0.receiveHeader(bodySize: 101, .success(.init()), &$1) }.isEmpty)
        let body = ByteBuffer(repeating: 0, count: 101)
        #expect(machine.run { $0.receiveBody(body, &$1) }.names == ["basic.reject", "refused"])
        #expect(machine.receiveMessage(deliver("t", 3)).names == ["deliver"])
    }

    @Test("A consumer that the broker cancels hears of it once, and cancelling it then is no error")
    func serverCancel() {
        var machine = opened()
        _ = machine.run { $0.consume(1, BasicConsume(queue: "q", consumerTag: "t"), consumer(), &$1) }
        _ = machine.receive(.basicConsumeOK(consumerTag: "t"))
        #expect(machine.receive(.basicCancel(consumerTag: "t", noWait: true)).names == ["cancelled"])
        #expect(machine.receive(.basicCancel(consumerTag: "t", noWait: true)).isEmpty)
        #expect(machine.run { $0.cancelConsumer(2, tag: "t", &$1) }.names == ["2 ok"])
    }

    // MARK: Confirms

    @Test("Acks and nacks settle one message or all up to one, each once")
    func confirms() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        for name in ["a", "b", "c", "d", "e"] { machine.published(publish(name, to: outcomes)) }
        machine.execute { $0.receive(.basicAck(deliveryTag: 2, multiple: false), &$1) }
        machine.execute { $0.receive(.basicNack(deliveryTag: 3, multiple: true, requeue: false), &$1) }
        machine.execute { $0.receive(.basicAck(deliveryTag: 2, multiple: false), &$1) }
        #expect(outcomes.values == ["b confirmed", "a nacked", "c nacked"])
        #expect(machine.unconfirmed == 2)
        machine.execute { $0.receive(.basicAck(deliveryTag: 0, multiple: true), &$1) }
        #expect(outcomes.values.suffix(2) == ["d confirmed", "e confirmed"])
        #expect(machine.unconfirmed == 0)
    }

    @Test("A confirm of what was never published is a breach of the protocol", arguments: [0, 2])
    func unknownConfirm(_ tag: UInt64) {
        var machine = opened(confirming: true)
        machine.published(publish("a"))
        #expect(machine.receive(.basicAck(deliveryTag: tag, multiple: false)).names == ["fail"])
    }

    @Test("A returned message is told so before its ack, which is then swallowed; equal messages are returned in order")
    func returns() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        for name in ["a", "x", "x", "b", "x"] { machine.published(publish(name, to: outcomes)) }
        let returned = Method.basicReturn(replyCode: 312, replyText: "NO_ROUTE", exchange: "", routingKey: "x")
        for _ in 0..<2 { for action in machine.receiveMessage(returned, body: "x") { action.execute() } }
        #expect(outcomes.values == ["x returned", "x returned"])
        machine.execute { $0.receive(.basicAck(deliveryTag: 5, multiple: true), &$1) }
        #expect(outcomes.values.suffix(3) == ["a confirmed", "b confirmed", "x confirmed"])
        #expect(machine.receiveMessage(returned, body: "x").names == ["unmatched"])
    }

    @Test("At the bound of unconfirmed messages no more are accepted, until one is confirmed")
    func unconfirmedBound() {
        var machine = opened(confirming: true, unconfirmed: 2)
        machine.published(publish("a"))
        #expect(machine.acceptsPublish)
        machine.published(publish("b"))
        #expect(!machine.acceptsPublish)
        _ = machine.receive(.basicAck(deliveryTag: 1, multiple: false))
        #expect(machine.acceptsPublish)
        #expect(machine.receive(.channelFlow(active: false)).names == ["channel.flow-ok"])
        #expect(!machine.acceptsPublish)
    }

    // MARK: Closing

    @Test(
        "Our close fails what waits, and what is unconfirmed at close-ok counts as delivered, but for what was returned"
    )
    func close() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        _ = machine.run { $0.perform(1, declare("a"), &$1) }
        _ = machine.run { $0.perform(2, declare("b"), &$1) }
        machine.published(publish("x", to: outcomes))
        machine.published(publish("y", to: outcomes))
        #expect(machine.run { $0.close(&$1) }.names == ["1 channelClosed", "2 notSent", "channel.close"])
        #expect(machine.run { $0.close(&$1) }.isEmpty)
        #expect(machine.run { $0.perform(3, declare("c"), &$1) }.names == ["3 notSent"])
        #expect(machine.receive(declared("a")).isEmpty)
        let returned = Method.basicReturn(replyCode: 312, replyText: "", exchange: "", routingKey: "x")
        for action in machine.receiveMessage(returned, body: "x") { action.execute() }
        let closed = machine.receive(.channelCloseOK)
        for action in closed { action.execute() }
        #expect(closed.names == ["settle", "closed channelClosed", "released"])
        #expect(outcomes.values == ["x returned", "y presumedDelivered"])
        #expect(machine.receive(.channelCloseOK).names == ["fail"])
    }

    @Test("The broker's close is acknowledged; what is unconfirmed is in doubt")
    func closedByBroker() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        _ = machine.run { $0.perform(1, declare("a"), &$1) }
        machine.published(publish("x", to: outcomes))
        let closed = machine.receive(.channelClose(CloseReason(replyCode: 404, replyText: "NOT_FOUND")))
        for action in closed { action.execute() }
        #expect(
            closed.names == [
                "channel.close-ok", "sealed", "1 channelClosedByBroker", "settle", "closed channelClosedByBroker",
                "released",
            ]
        )
        #expect(outcomes.values == ["x unknown"])
    }

    @Test("When both sides close at once the number is free after the broker's close-ok, and nothing is presumed")
    func crossing() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        machine.published(publish("x", to: outcomes))
        _ = machine.run { $0.close(&$1) }
        let crossed = machine.receive(.channelClose(CloseReason(replyCode: 404, replyText: "NOT_FOUND")))
        #expect(crossed.names == ["channel.close-ok"])
        let closed = machine.receive(.channelCloseOK)
        for action in closed { action.execute() }
        #expect(closed.names == ["settle", "closed channelClosedByBroker", "released"])
        #expect(outcomes.values == ["x unknown"])
    }

    @Test("A close that is not answered ends the channel at its deadline, and keeps the number until the answer")
    func closeTimedOut() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        machine.published(publish("x", to: outcomes))
        _ = machine.run { $0.close(&$1) }
        let over = machine.run { $0.closeTimedOut(after: .seconds(1), &$1) }
        for action in over { action.execute() }
        #expect(over.names == ["settle", "closed timedOut"])
        #expect(outcomes.values == ["x unknown"])
        #expect(machine.receive(.basicAck(deliveryTag: 1, multiple: false)).isEmpty)
        #expect(machine.receive(.channelCloseOK).names == ["released"])
    }

    @Test("While closing, what needs no ack is still delivered: it would be lost")
    func deliveriesWhileClosing() {
        var machine = opened()
        _ = machine.run { $0.consume(1, BasicConsume(queue: "q", consumerTag: "t"), consumer(), &$1) }
        _ = machine.receive(.basicConsumeOK(consumerTag: "t"))
        let noAck = BasicConsume(queue: "q", consumerTag: "n", noAck: true)
        _ = machine.run { $0.consume(2, noAck, consumer(noAck: true), &$1) }
        _ = machine.receive(.basicConsumeOK(consumerTag: "n"))
        _ = machine.run { $0.close(&$1) }
        #expect(machine.receiveMessage(deliver("t")).isEmpty)
        #expect(machine.receiveMessage(deliver("n")).names == ["deliver"])
    }

    @Test("The connection's end fails everything once: presumed delivered when we closed it, in doubt otherwise")
    func connectionEnded() {
        for (isClean, outcome) in [(true, "presumedDelivered"), (false, "unknown")] {
            let outcomes = Recorder<String>()
            var machine = opened(confirming: true)
            _ = machine.run { $0.perform(1, declare("a"), &$1) }
            _ = machine.run { $0.perform(2, declare("b"), &$1) }
            machine.published(publish("x", to: outcomes))
            let ended = machine.run { $0.connectionEnded(.connectionLost(reason: ""), isClean: isClean, &$1) }
            for action in ended { action.execute() }
            #expect(
                ended.names == ["sealed", "1 connectionLost", "2 notSent", "settle", "closed connectionLost"]
            )
            #expect(outcomes.values == ["x \(outcome)"])
            #expect(machine.run { $0.connectionEnded(.connectionClosed, isClean: true, &$1) }.isEmpty)
        }
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
        if case .settle(let outcome, let value) = self { outcome(value) }
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
