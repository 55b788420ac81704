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
    /// The processes of a tree, its zombies and the tasks that the library started for it are always counted, because they belong to the
    /// tree. Descriptors and memory belong to the OS process: count them only in a test that runs alone.
    public struct LeakCheck: Sendable, Hashable {
        /// The allowed growth of the number of open file descriptors; `nil` to not count them.
        public var descriptors: Int?
        /// The allowed growth of the resident memory in bytes; `nil` to not count it. Linux only.
        public var memory: Int?

        /// Creates a check of the tree's resources, and of those given.
        public init(descriptors: Int? = nil, memory: Int? = nil) {
            self.descriptors = descriptors
            self.memory = memory
        }

        /// Only resources of the tree.
        public static let ofTheTree = Chaos.LeakCheck()
        /// Also no additional descriptors, and at most 64 MiB more memory.
        public static let ofTheProcess = Chaos.LeakCheck(descriptors: 0, memory: 64 << 20)
    }
}

/// The resources of the OS process.
struct Resources: Sendable {
    var descriptors: Int?
    var memory: Int?

    static func now() -> Resources {
        Resources(descriptors: openDescriptors(), memory: residentMemory())
    }

    /// The growth beyond what is allowed.
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
