#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

extension Chaos {
    /// What is counted before the first and after the last round.
    ///
    /// The processes of a tree, its zombies and the tasks that the library started for it are always counted: they are the tree's
    /// own. Descriptors and memory belong to the OS process: count them in a test that runs alone.
    public struct LeakCheck: Sendable, Hashable {
        /// By how much the number of open file descriptors may grow; `nil` not to count them.
        public var descriptors: Int?
        /// By how many bytes the resident memory may grow; `nil` not to count it. Linux only.
        public var memory: Int?

        /// A check of the tree's own, and of what is given.
        public init(descriptors: Int? = nil, memory: Int? = nil) {
            self.descriptors = descriptors
            self.memory = memory
        }

        /// Only what belongs to the tree.
        public static let ofTheTree = Chaos.LeakCheck()
        /// Also no more descriptors than before, and at most 64 MiB of memory.
        public static let ofTheProcess = Chaos.LeakCheck(descriptors: 0, memory: 64 << 20)
    }
}

/// What the OS process holds.
struct Resources: Sendable {
    var descriptors: Int?
    var memory: Int?

    static func now() -> Resources {
        Resources(descriptors: openDescriptors(), memory: residentMemory())
    }

    /// What is more than allowed.
    func leaks(since before: Resources, _ check: Chaos.LeakCheck) -> [String] {
        var leaks: [String] = []
        if let limit = check.descriptors, let descriptors, let earlier = before.descriptors,
            descriptors - earlier > limit
        {
            leaks.append("\(descriptors - earlier) file descriptors more than before (allowed: \(limit))")
        }
        if let limit = check.memory, let memory, let earlier = before.memory, memory - earlier > limit {
            leaks.append("\((memory - earlier) >> 10) KiB of memory more than before (allowed: \(limit >> 10))")
        }
        return leaks
    }

    private static func openDescriptors() -> Int? {
        #if os(Linux)
        let folder = "/proc/self/fd"
        #else
        let folder = "/dev/fd"
        #endif
        guard let directory = opendir(folder) else { return nil }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        return count
    }

    private static func residentMemory() -> Int? {
        #if os(Linux)
        guard let file = fopen("/proc/self/statm", "r") else { return nil }
        defer { fclose(file) }
        var buffer = [CChar](repeating: 0, count: 256)
        guard fgets(&buffer, Int32(buffer.count), file) != nil else { return nil }
        let words = buffer.prefix { $0 != 0 }.split(separator: 32).map {
            String(decoding: $0.map(UInt8.init), as: UTF8.self)
        }
        guard words.count > 1, let pages = Int(words[1]) else { return nil }
        return pages * Int(getpagesize())
        #else
        return nil
        #endif
    }
}
