import Foundation
import NIOCore
import NIOPosix

/// The least an AMQP client can be: it says everything a consumer says, without listening to the answers.
struct RawClient {
    private let channel: any Channel

    /// Connects, opens channel 1 with a prefetch of 7, and consumes `queue`, which exists, as `tag`.
    init(port: Int, virtualHost: String, name: String, consuming queue: String, as tag: String) async throws {
        channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: port)
            .get()
        var bytes = ByteBuffer(string: "AMQP\u{0}\u{0}\u{9}\u{1}")
        var properties = ByteBuffer()
        properties.writeShortString("connection_name")
        properties.writeString("S")
        properties.writeLongString(name)
        // start-ok
        bytes.writeMethod(class: 10, method: 11, channel: 0) {
            $0.writeInteger(UInt32(properties.readableBytes))
            $0.writeImmutableBuffer(properties)
            $0.writeShortString("PLAIN")
            $0.writeLongString("\u{0}guest\u{0}guest")
            $0.writeShortString("en_US")
        }
        // tune-ok
        bytes.writeMethod(class: 10, method: 31, channel: 0) {
            $0.writeInteger(UInt16(2047))
            $0.writeInteger(UInt32(131_072))
            $0.writeInteger(UInt16(60))
        }
        // connection.open
        bytes.writeMethod(class: 10, method: 40, channel: 0) {
            $0.writeShortString(virtualHost)
            $0.writeShortString("")
            $0.writeInteger(UInt8(0))
        }
        // channel.open
        bytes.writeMethod(class: 20, method: 10, channel: 1) { $0.writeShortString("") }
        // basic.qos
        bytes.writeMethod(class: 60, method: 10, channel: 1) {
            $0.writeInteger(UInt32(0))
            $0.writeInteger(UInt16(7))
            $0.writeInteger(UInt8(0))
        }
        // basic.consume
        bytes.writeMethod(class: 60, method: 20, channel: 1) {
            $0.writeInteger(UInt16(0))
            $0.writeShortString(queue)
            $0.writeShortString(tag)
            $0.writeInteger(UInt8(0))
            $0.writeInteger(UInt32(0))
        }
        try await channel.writeAndFlush(bytes)
    }

    /// Returns when the broker has closed the connection.
    func closed() async throws { try await channel.closeFuture.get() }

    func close() async throws { try await channel.close() }
}

extension ByteBuffer {
    fileprivate mutating func writeShortString(_ text: String) {
        writeInteger(UInt8(text.utf8.count))
        writeString(text)
    }

    fileprivate mutating func writeLongString(_ text: String) {
        writeInteger(UInt32(text.utf8.count))
        writeString(text)
    }

    fileprivate mutating func writeMethod(
        class classID: UInt16,
        method: UInt16,
        channel: UInt16,
        _ arguments: (inout ByteBuffer) -> Void
    ) {
        var payload = ByteBuffer()
        payload.writeInteger(classID)
        payload.writeInteger(method)
        arguments(&payload)
        writeInteger(UInt8(1))
        writeInteger(channel)
        writeInteger(UInt32(payload.readableBytes))
        writeImmutableBuffer(payload)
        writeInteger(UInt8(0xCE))
    }
}
