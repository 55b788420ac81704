import Testing

@testable import AMQPPool

@Suite("A channel's closing, as decided")
struct ChannelClosingTests: ChannelDecisions {
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
