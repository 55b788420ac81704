/// Rejects values that are nested too deeply to be encoded, before a recursive encoder overflows the stack.
///
/// It is an `Encoder` that only counts. A JSON decoder stops at the same depth.
package enum EncodingDepth {
    /// The limit of Foundation's JSON decoder.
    static let limit = 512

    /// - Throws: When the value is nested more than ``limit`` levels deep, or what its `encode(to:)` throws.
    package static func check<Value: Encodable>(_ value: Value) throws {
        if isPlain(Value.self) { return }
        let excess = Excess()
        try value.encode(to: Probe(place: Place(excess: excess)))
        if excess.isReached { throw tooDeep }
    }

    private static var tooDeep: RPCCodecError { RPCCodecError("the value is nested deeper than \(limit) levels") }

    /// Records that a container was nested too deeply, where nothing can be thrown.
    private final class Excess {
        var isReached = false
    }

    /// The current depth, in the output and in calls.
    private struct Place {
        let excess: Excess
        var depth = 1
        var calls = 0

        /// The position in a nested container.
        var nested: Place {
            if depth >= limit { excess.isReached = true }
            var place = self
            place.depth += 1
            return place
        }

        /// Descends into a value at this position.
        ///
        /// - Parameter isNested: Whether the value is in a container, instead of being the value itself.
        func step<Value: Encodable>(into value: Value, isNested: Bool) throws {
            if isPlain(Value.self) { return }
            var place = self
            place.calls += 1
            if isNested { place.depth += 1 }
            guard !excess.isReached, place.depth <= limit, place.calls <= 3 * limit else { throw tooDeep }
            try value.encode(to: Probe(place: place))
        }
    }

    /// Whether values of this type contain no others, and need no check.
    private static func isPlain(_ type: Any.Type) -> Bool {
        // Compares types: casting the value costs a hundred times as much.
        type == String.self || type == Int.self || type == Double.self || type == Bool.self || type == [Int].self
            || type == [String].self || type == [Double].self || type == Int64.self || type == UInt64.self
            || type == [UInt8].self
    }

    private struct Probe: Encoder {
        let place: Place
        var codingPath: [any CodingKey] { [] }
        var userInfo: [CodingUserInfoKey: Any] { [:] }

        func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
            KeyedEncodingContainer(Keyed<Key>(place: place))
        }
        func unkeyedContainer() -> any UnkeyedEncodingContainer { Unkeyed(place: place) }
        func singleValueContainer() -> any SingleValueEncodingContainer { Single(place: place) }
    }

    private struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let place: Place
        var codingPath: [any CodingKey] { [] }
        mutating func encodeNil(forKey key: Key) {}
        mutating func encode(_ value: Bool, forKey key: Key) {}
        mutating func encode(_ value: String, forKey key: Key) {}
        mutating func encode(_ value: Double, forKey key: Key) {}
        mutating func encode(_ value: Float, forKey key: Key) {}
        mutating func encode(_ value: Int, forKey key: Key) {}
        mutating func encode(_ value: Int8, forKey key: Key) {}
        mutating func encode(_ value: Int16, forKey key: Key) {}
        mutating func encode(_ value: Int32, forKey key: Key) {}
        mutating func encode(_ value: Int64, forKey key: Key) {}
        mutating func encode(_ value: UInt, forKey key: Key) {}
        mutating func encode(_ value: UInt8, forKey key: Key) {}
        mutating func encode(_ value: UInt16, forKey key: Key) {}
        mutating func encode(_ value: UInt32, forKey key: Key) {}
        mutating func encode(_ value: UInt64, forKey key: Key) {}
        mutating func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws {
            try place.step(into: value, isNested: true)
        }
        mutating func nestedContainer<Nested: CodingKey>(
            keyedBy keyType: Nested.Type,
            forKey key: Key
        ) -> KeyedEncodingContainer<Nested> {
            KeyedEncodingContainer(Keyed<Nested>(place: place.nested))
        }
        mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
            Unkeyed(place: place.nested)
        }
        mutating func superEncoder() -> any Encoder { Probe(place: place.nested) }
        mutating func superEncoder(forKey key: Key) -> any Encoder { Probe(place: place.nested) }
    }

    private struct Unkeyed: UnkeyedEncodingContainer {
        let place: Place
        var count = 0
        var codingPath: [any CodingKey] { [] }
        init(place: Place) { self.place = place }
        mutating func encodeNil() { count += 1 }
        mutating func encode(_ value: Bool) { count += 1 }
        mutating func encode(_ value: String) { count += 1 }
        mutating func encode(_ value: Double) { count += 1 }
        mutating func encode(_ value: Float) { count += 1 }
        mutating func encode(_ value: Int) { count += 1 }
        mutating func encode(_ value: Int8) { count += 1 }
        mutating func encode(_ value: Int16) { count += 1 }
        mutating func encode(_ value: Int32) { count += 1 }
        mutating func encode(_ value: Int64) { count += 1 }
        mutating func encode(_ value: UInt) { count += 1 }
        mutating func encode(_ value: UInt8) { count += 1 }
        mutating func encode(_ value: UInt16) { count += 1 }
        mutating func encode(_ value: UInt32) { count += 1 }
        mutating func encode(_ value: UInt64) { count += 1 }
        mutating func encode<Value: Encodable>(_ value: Value) throws {
            count += 1
            try place.step(into: value, isNested: true)
        }
        mutating func nestedContainer<Nested: CodingKey>(keyedBy keyType: Nested.Type) -> KeyedEncodingContainer<Nested>
        {
            count += 1
            return KeyedEncodingContainer(Keyed<Nested>(place: place.nested))
        }
        mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
            count += 1
            return Unkeyed(place: place.nested)
        }
        mutating func superEncoder() -> any Encoder {
            count += 1
            return Probe(place: place.nested)
        }
    }

    private struct Single: SingleValueEncodingContainer {
        let place: Place
        var codingPath: [any CodingKey] { [] }
        mutating func encodeNil() {}
        mutating func encode(_ value: Bool) {}
        mutating func encode(_ value: String) {}
        mutating func encode(_ value: Double) {}
        mutating func encode(_ value: Float) {}
        mutating func encode(_ value: Int) {}
        mutating func encode(_ value: Int8) {}
        mutating func encode(_ value: Int16) {}
        mutating func encode(_ value: Int32) {}
        mutating func encode(_ value: Int64) {}
        mutating func encode(_ value: UInt) {}
        mutating func encode(_ value: UInt8) {}
        mutating func encode(_ value: UInt16) {}
        mutating func encode(_ value: UInt32) {}
        mutating func encode(_ value: UInt64) {}
        mutating func encode<Value: Encodable>(_ value: Value) throws { try place.step(into: value, isNested: false) }
    }
}
