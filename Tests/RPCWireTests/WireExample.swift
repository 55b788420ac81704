import Foundation
import NIOCore
import RPCWire

@testable import AMQPPool

/// One worked example of docs/wire-protocol.md.
struct WireExample {
    let fields: [String: String]
    private let order: [String]

    /// The page's text.
    static func page() throws -> String {
        let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "docs/wire-protocol.md")
        return try String(contentsOf: page, encoding: .utf8)
    }

    /// Every example of the page, by name.
    static func all() throws -> [String: WireExample] {
        let text = try page()
        var examples: [String: WireExample] = [:]
        for block in text.components(separatedBy: "```wire\n").dropFirst() {
            guard let end = block.range(of: "```") else { continue }
            let example = WireExample(block[..<end.lowerBound])
            examples[example["name"]] = example
        }
        return examples
    }

    private init(_ text: Substring) {
        var fields: [String: String] = [:]
        var order: [String] = []
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard let name = parts.first.map(String.init) else { continue }
            fields[name] = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : ""
            order.append(name)
        }
        self.fields = fields
        self.order = order
    }

    subscript(name: String) -> String { fields[name] ?? "" }

    /// The properties that the example lists.
    var properties: MessageProperties {
        var headers = FieldTable()
        for name in order where name.hasPrefix("headers.") {
            let value = self[name]
            let text = String(value.dropFirst(2))
            headers[String(name.dropFirst("headers.".count))] =
                value.hasPrefix("l ") ? Int64(text).map { .int64($0) } : .string(text)
        }
        return MessageProperties(
            contentType: fields["content_type"],
            headers: headers,
            deliveryMode: fields["delivery_mode"].flatMap(UInt8.init).flatMap(DeliveryMode.init),
            correlationID: fields["correlation_id"],
            replyTo: fields["reply_to"],
            expiration: fields["expiration"],
            messageID: fields["message_id"]
        )
    }

    /// The properties and the body that the example's bytes say, read by the client's own decoder.
    func decoded() throws -> (properties: MessageProperties, body: ByteBuffer) {
        let decoder = FrameDecoder(maximumFrameSize: 131_072)
        decoder.append(Self.frame(type: 2, payload: Self.bytes(self["header"])))
        decoder.append(Self.frame(type: 3, payload: Self.bytes(self["body"])))
        guard case .header(1, let size, .success(let properties)) = try decoder.next(),
            case .body(1, let body) = try decoder.next(), size == UInt64(body.readableBytes)
        else { throw RPCCodecError("the bytes are no content header and body") }
        return (properties, body)
    }

    /// What a client writes for a message: the payloads of its content header frame and its body frame, in hexadecimal.
    static func encoded(_ properties: MessageProperties, _ body: ByteBuffer) throws -> (header: String, body: String) {
        let encoder = FrameEncoder(maximumFrameSize: 131_072)
        var bytes = ByteBuffer()
        try encoder.encode(
            .basicPublish(exchange: "", routingKey: "", mandatory: true),
            channel: 1,
            properties: properties,
            body: body,
            into: &bytes
        )
        var payloads: [String] = []
        while bytes.readableBytes > 0, let _ = bytes.readBytes(length: 3),
            let length = bytes.readInteger(as: UInt32.self),
            let payload = bytes.readBytes(length: Int(length)), let _ = bytes.readBytes(length: 1)
        {
            payloads.append(payload.map { String(format: "%02x", $0) }.joined())
        }
        guard payloads.count == 3 else { throw RPCCodecError("\(payloads.count) frames") }
        return (payloads[1], payloads[2])
    }

    private static func frame(type: UInt8, payload: [UInt8]) -> ByteBuffer {
        var frame = ByteBuffer()
        frame.writeBytes([type, 0, 1])
        frame.writeInteger(UInt32(payload.count))
        frame.writeBytes(payload)
        frame.writeBytes([0xCE])
        return frame
    }

    private static func bytes(_ hex: String) -> [UInt8] {
        let digits = Array(hex)
        return stride(from: 0, to: digits.count - 1, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
    }
}
