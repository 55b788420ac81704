/// Parses keys from the bytes of a terminal: a value, fed with arbitrary chunks.
struct KeyReader: Sendable {
    private var waiting: [UInt8] = []

    /// - Parameter isComplete: Whether no more bytes follow immediately: a single waiting byte is then the escape key.
    mutating func take(_ bytes: [UInt8], isComplete: Bool = true) -> [TopScreen.Key] {
        waiting += bytes
        var keys: [TopScreen.Key] = []
        while let first = waiting.first {
            guard first == 0x1B else {
                guard let key = character() else { break }
                keys.append(key)
                continue
            }
            guard waiting.count > 1 else {
                guard isComplete else { break }
                waiting = []
                keys.append(.escape)
                break
            }
            guard waiting[1] == UInt8(ascii: "[") || waiting[1] == UInt8(ascii: "O") else {
                waiting.removeFirst()
                keys.append(.escape)
                continue
            }
            // Up to the final letter or tilde.
            guard let end = waiting.dropFirst(2).firstIndex(where: { (0x40...0x7E).contains($0) }) else {
                if waiting.count > 16 { waiting = [] }
                break
            }
            if let key = Self.key(Array(waiting[2...end])) { keys.append(key) }
            waiting.removeSubrange(...end)
        }
        return keys
    }

    private mutating func character() -> TopScreen.Key? {
        let first = waiting[0]
        let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
        guard waiting.count >= length else { return nil }
        let text = String(decoding: waiting[..<length], as: UTF8.self)
        waiting.removeSubrange(..<length)
        switch first {
        case 0x0D, 0x0A: return .enter
        case 0x7F, 0x08: return .backspace
        default: return text.first.map { .character($0) }
        }
    }

    private static func key(_ sequence: [UInt8]) -> TopScreen.Key? {
        switch String(decoding: sequence, as: UTF8.self) {
        case "A": .up
        case "B": .down
        case "C": .right
        case "D": .left
        case "H", "1~": .home
        case "F", "4~": .end
        case "5~": .pageUp
        case "6~": .pageDown
        default: nil
        }
    }
}
