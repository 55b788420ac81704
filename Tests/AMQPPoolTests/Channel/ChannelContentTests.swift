import NIOCore
import Testing

@testable import AMQPPool

@Suite("What a channel is delivered, as decided")
struct ChannelContentTests: ChannelDecisions {
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
        let refused = machine.run {
            $0.receiveHeader(bodySize: 0, .failure(RefusedProperties(reason: .nestedTooDeeply)), &$1)
        }
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
}
