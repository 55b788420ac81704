import Testing

@testable import AMQPPool

@Suite("A channel's confirms, as decided")
struct ChannelConfirmTests: ChannelDecisions {
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

    @Test("Who hears of failures only is told of no confirm, but of everything else")
    func failuresOnly() {
        let outcomes = Recorder<String>()
        var machine = opened(confirming: true)
        for name in ["a", "b", "c", "d"] {
            var publish = publish(name, to: outcomes)
            publish.tellsFailuresOnly = true
            machine.published(publish)
        }
        #expect(machine.receive(.basicAck(deliveryTag: 1, multiple: false)).isEmpty)
        machine.execute { $0.receive(.basicNack(deliveryTag: 2, multiple: false, requeue: false), &$1) }
        machine.execute { $0.receive(.basicAck(deliveryTag: 3, multiple: true), &$1) }
        #expect(machine.unconfirmed == 1)
        machine.execute { $0.connectionEnded(.connectionClosed, isClean: false, &$1) }
        #expect(outcomes.values == ["b nacked", "d unknown"])
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
}
