import Testing

@testable import AMQPPool

@Suite("A channel's operations, as decided")
struct ChannelOperationTests: ChannelDecisions {
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
}
