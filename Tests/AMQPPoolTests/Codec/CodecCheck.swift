import NIOCore

@testable import AMQPPool

/// What must hold for whatever bytes the codec is given: it neither traps nor reads outside of them, what it decodes it can
/// encode or refuses to, and what it encodes it can decode.
///
/// Also compiled into Fuzz, which tries it with many more inputs.
enum CodecCheck {
    struct Failure: Error {
        var what: String
    }

    /// Checks one input. Its first byte says what the others are: with an even one, a stream of frames; with an odd one,
    /// the flags and properties of a message, whose headers are a table.
    static func check(_ input: [UInt8]) throws(Failure) {
        guard let kind = input.first else { return }
        let bytes = Array(input.dropFirst())
        try decode(kind % 2 == 0 ? bytes : message(properties: bytes))
    }

    private static func decode(_ stream: [UInt8]) throws(Failure) {
        let decoder = FrameDecoder(maximumFrameSize: 131_072)
        let encoder = FrameEncoder(maximumFrameSize: 131_072)
        // In two parts, since bytes come as the network likes.
        for part in [stream.prefix(stream.count / 2), stream.dropFirst(stream.count / 2)] {
            decoder.append(ByteBuffer(bytes: part))
            while let frame = next(decoder) { try reencode(frame, encoder) }
        }
    }

    /// The next frame, or nil when there is none, or an error.
    private static func next(_ decoder: FrameDecoder) -> Frame? {
        try? decoder.next()
    }

    private static func reencode(_ frame: Frame, _ encoder: FrameEncoder) throws(Failure) {
        var bytes = ByteBuffer()
        let expected: Int
        do {
            switch frame {
            case .method(let channel, let method):
                try encoder.encode(method, channel: channel, into: &bytes)
                expected = 1
            case .header(let channel, _, .success(let properties)):
                let publish = Method.basicPublish(exchange: "", routingKey: "", mandatory: false)
                try encoder.encode(
                    publish,
                    channel: max(1, channel),
                    properties: properties,
                    body: ByteBuffer(),
                    into: &bytes
                )
                expected = 2
            default: return
            }
        } catch {
            guard bytes.readableBytes == 0 else { throw Failure(what: "a part of \(frame) was encoded") }
            return
        }
        let decoder = FrameDecoder(maximumFrameSize: 131_072)
        decoder.append(bytes)
        for _ in 0..<expected {
            switch next(decoder) {
            case nil, .header(_, _, .failure)?: throw Failure(what: "\(frame) was encoded, and cannot be decoded")
            default: break
            }
        }
    }

    /// A header frame for channel 1 with these flags and properties.
    private static func message(properties: [UInt8]) -> [UInt8] {
        let size = UInt32(clamping: 12 + properties.count)
        let head = [2, 0, 1] + withUnsafeBytes(of: size.bigEndian) { Array($0) }
        return head + [0, 60, 0, 0] + [UInt8](repeating: 0, count: 8) + properties + [0xCE]
    }
}
