import Foundation
import Synchronization

/// What an account is outside of its activation: a file in a folder that all nodes share.
///
/// A store with a fence: it takes nothing from an activation whose number is less than that of the last one that wrote. And it remembers
/// the last requests, so that one that is delivered again is not worked on twice.
struct StoredAccount: Codable {
    var number: Int64 = 0
    var cents = 0
    var requests: [String] = []

    struct Fenced: Error {}

    static let rememberedRequests = 50

    static func read(_ key: String, in folder: URL) -> StoredAccount {
        guard let data = try? Data(contentsOf: folder.appending(path: "\(key).json")) else { return StoredAccount() }
        return (try? JSONDecoder().decode(StoredAccount.self, from: data)) ?? StoredAccount()
    }

    func write(_ key: String, in folder: URL) throws {
        guard Self.read(key, in: folder).number <= number else { throw Fenced() }
        try JSONEncoder().encode(self).write(to: folder.appending(path: "\(key).json"), options: .atomic)
    }
}

/// What a node did, call by call: when it began and ended, for which key, under which number.
final class WorkLog: Sendable {
    private let handle: Mutex<FileHandle>

    init(_ file: URL) throws {
        if !FileManager.default.fileExists(atPath: file.path) {
            _ = FileManager.default.createFile(atPath: file.path, contents: nil)
        }
        let handle = try FileHandle(forWritingTo: file)
        try handle.seekToEnd()
        self.handle = Mutex(handle)
    }

    /// The same clock in all processes of a machine.
    static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
    }

    func add(_ key: String, _ number: Int64, from begin: UInt64, to end: UInt64) {
        handle.withLock { try? $0.write(contentsOf: Data("\(key) \(number) \(begin) \(end)\n".utf8)) }
    }
}

/// One call that a node has worked on.
struct Work {
    var key: String
    var number: Int64
    var begin: UInt64
    var end: UInt64
    var node: String

    /// All that the nodes have written.
    static func read(_ folder: URL) throws -> [Work] {
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return files.filter { $0.pathExtension == "log" }.flatMap { file -> [Work] in
            let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
            return text.split(separator: "\n").compactMap { line in
                let parts = line.split(separator: " ")
                guard parts.count == 4, let number = Int64(parts[1]), let begin = UInt64(parts[2]),
                    let end = UInt64(parts[3])
                else { return nil }
                return Work(key: String(parts[0]), number: number, begin: begin, end: end, node: file.lastPathComponent)
            }
        }
    }

    /// What is wrong with them: activations of one actor that overlap, and numbers that do not grow.
    static func faults(_ works: [Work]) -> (
        overlapping: [String], notGrowing: [String], activations: Int, gaps: [Double]
    ) {
        var (overlapping, notGrowing, gaps) = ([String](), [String](), [Double]())
        var activations = 0
        for (key, all) in Dictionary(grouping: works, by: \.key) {
            let all = all.sorted { $0.begin < $1.begin }
            if !all.isEmpty { activations += 1 }
            for (last, next) in zip(all, all.dropFirst()) {
                if last.node != next.node || last.number != next.number { activations += 1 }
                guard last.node != next.node else { continue }
                if next.begin < last.end { overlapping.append("\(key): \(last) and \(next)") }
                if next.number <= last.number { notGrowing.append("\(key): \(last) and \(next)") }
                if next.begin >= last.end { gaps.append(Double(next.begin - last.end) / 1000) }
            }
        }
        return (overlapping, notGrowing, activations, gaps.sorted())
    }
}
