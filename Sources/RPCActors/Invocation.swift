public import Distributed
import Foundation
import NIOCore
import NIOFoundationCompat
import RPCContract
import RPCWire
import Synchronization

extension JSONEncoder {
    /// Encodes a value, rejecting nesting that would overflow the stack.
    func encode<Value: Encodable>(bounded value: Value) throws -> Data {
        try EncodingDepth.check(value)
        return try encode(value)
    }
}

/// The encoder of a call: a JSON array of its arguments.
public struct RPCInvocationEncoder: DistributedTargetInvocationEncoder {
    /// Arguments and results are `Codable`.
    public typealias SerializationRequirement = any Codable

    private let encoder: JSONEncoder
    /// The arguments, complete after `doneRecording()`.
    private(set) var body = ByteBuffer(integer: UInt8(ascii: "["))
    /// The number of types that the stub recorded: its own, and one for each generic parameter.
    private(set) var substitutions = 0

    init(_ encoder: JSONEncoder) {
        self.encoder = encoder
    }

    /// Counts the types; they are not sent.
    public mutating func recordGenericSubstitution<T>(_ type: T.Type) throws {
        substitutions += 1
    }

    /// Encodes the next argument.
    public mutating func recordArgument<Value: Codable>(_ argument: RemoteCallArgument<Value>) throws {
        if body.readableBytes > 1 { body.writeInteger(UInt8(ascii: ",")) }
        do {
            body.writeData(try encoder.encode(bounded: argument.value))
        } catch {
            throw RPCActorError.notEncodable("the argument \"\(argument.name)\": \(RPCCodecError(error))")
        }
    }

    /// Does nothing: errors are registered.
    public mutating func recordErrorType<Failure: Error>(_ type: Failure.Type) throws {}
    /// Does nothing: the method's signature determines it.
    public mutating func recordReturnType<Result: Codable>(_ type: Result.Type) throws {}

    /// Ends the array.
    public mutating func doneRecording() throws {
        body.writeInteger(UInt8(ascii: "]"))
    }
}

/// The arguments of a request, decoded one by one as the method's parameters require.
public struct RPCInvocationDecoder: DistributedTargetInvocationDecoder {
    /// Arguments and results are `Codable`.
    public typealias SerializationRequirement = any Codable

    /// The error for arguments that do not match the method. The runtime reports it as if the method had thrown it.
    struct Undecodable: Error {
        let description: String
    }

    private var arguments: ArgumentScanner
    private let substitutions: [any Any.Type]
    private let decoder: JSONDecoder
    private var count = 0

    init(_ body: ByteBuffer, substitutions: [any Any.Type], _ decoder: JSONDecoder) {
        arguments = ArgumentScanner(body)
        self.substitutions = substitutions
        self.decoder = decoder
    }

    /// The types of this program, never those named by a peer.
    public mutating func decodeGenericSubstitutions() throws -> [any Any.Type] { substitutions }

    /// Decodes the next argument.
    public mutating func decodeNextArgument<Argument: Codable>() throws -> Argument {
        count += 1
        guard let bytes = arguments.next() else {
            throw Undecodable(
                description: arguments.isMalformed
                    ? "the arguments are not a JSON array" : "argument \(count) is missing"
            )
        }
        do {
            return try decoder.decode(Argument.self, from: Data(buffer: bytes, byteTransferStrategy: .automatic))
        } catch {
            throw Undecodable(description: "argument \(count): \(RPCCodecError(error))")
        }
    }

    /// Returns `nil`: errors are registered.
    public mutating func decodeErrorType() throws -> (any Any.Type)? { nil }
    /// Returns `nil`: the method's signature determines it.
    public mutating func decodeReturnType() throws -> (any Any.Type)? { nil }
}

/// Splits a JSON array into its elements without decoding them. For any input it terminates, and stays within the bytes.
struct ArgumentScanner: Sendable {
    private let bytes: ByteBuffer
    private var index: Int
    /// Whether the input is not an array, or is truncated.
    private(set) var isMalformed = false
    private var isOver = false

    init(_ bytes: ByteBuffer) {
        self.bytes = bytes
        index = 0
        skipSpace()
        if byte == UInt8(ascii: "[") { index += 1 } else { isMalformed = true }
        skipSpace()
        if byte == UInt8(ascii: "]") { isOver = true }
    }

    private var byte: UInt8? {
        index < bytes.readableBytes ? bytes.getInteger(at: bytes.readerIndex + index) : nil
    }

    private mutating func skipSpace() {
        while let byte, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
    }

    /// The next element; `nil` when there is none.
    mutating func next() -> ByteBuffer? {
        guard !isMalformed, !isOver else { return nil }
        let start = index
        guard let end = endOfElement(), end > start else {
            isMalformed = true
            return nil
        }
        let element = bytes.getSlice(at: bytes.readerIndex + start, length: end - start)
        if byte == UInt8(ascii: "]") { isOver = true } else { index += 1 }
        return element
    }

    /// Moves to the comma or bracket after the element.
    private mutating func endOfElement() -> Int? {
        bytes.withUnsafeReadableBytes { bytes in
            var depth = 0
            var isInString = false
            while index < bytes.count {
                let byte = bytes[index]
                if isInString {
                    if byte == UInt8(ascii: "\\") {
                        index += 1
                    } else if byte == UInt8(ascii: "\"") {
                        isInString = false
                    }
                } else {
                    switch byte {
                    case UInt8(ascii: "\""): isInString = true
                    case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
                    case UInt8(ascii: "]"), UInt8(ascii: "}"):
                        if depth == 0 { return byte == UInt8(ascii: "]") ? index : nil }
                        depth -= 1
                    case UInt8(ascii: ",") where depth == 0: return index
                    default: break
                    }
                }
                index += 1
            }
            return nil
        }
    }
}

/// Stores what a method returned or threw, until the request is answered.
public final class RPCResultHandler: DistributedTargetInvocationResultHandler {
    /// Arguments and results are `Codable`.
    public typealias SerializationRequirement = any Codable

    enum Outcome: Sendable {
        case value(ByteBuffer)
        case unencodable(String)
        case thrown(any Error)
    }

    private let encoder: JSONEncoder
    private let kept = Mutex<Outcome?>(nil)

    init(_ encoder: JSONEncoder) {
        self.encoder = encoder
    }

    var outcome: Outcome? { kept.withLock { $0 } }

    /// Stores a result.
    public func onReturn<Success: Codable>(value: Success) async throws {
        let outcome: Outcome
        do {
            outcome = .value(ByteBuffer(data: try encoder.encode(bounded: value)))
        } catch {
            outcome = .unencodable("\(RPCCodecError(error))")
        }
        kept.withLock { $0 = outcome }
    }

    /// Stores that there is no result.
    public func onReturnVoid() async throws {
        kept.withLock { $0 = .value(ByteBuffer(string: "null")) }
    }

    /// Stores an error.
    public func onThrow<Failure: Error>(error: Failure) async throws {
        kept.withLock { $0 = .thrown(error) }
    }
}
