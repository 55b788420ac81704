import Foundation
import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("Leaks", .timeLimit(.minutes(2)))
struct LeakTests {
    @Test("of descriptors are found")
    func descriptors() async throws {
        let files = Shared<[FileHandle]>([])
        let chaos = Chaos(leaks: Chaos.LeakCheck(descriptors: 100)) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("opens") { _ in
                    for _ in 0..<10 {
                        if let file = FileHandle(forReadingAtPath: "/dev/null") { files.with { $0.append(file) } }
                    }
                    return Keeper()
                }
            }
        }
        let failure = try #require(try await failure { try await chaos.storm(seed: 1, kills: 30, weights: [.kill: 1]) })
        #expect(failure.report.failures.isEmpty)
        #expect("\(failure)".contains("file descriptors more than before (allowed: 100)"))
        files.with { $0 = [] }
    }

    @Test("of memory are found")
    func memory() async throws {
        let blocks = Shared<[[UInt8]]>([])
        let chaos = Chaos(leaks: Chaos.LeakCheck(memory: 100 << 20)) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("hoards") { _ in
                    blocks.with { $0.append([UInt8](repeating: 1, count: 8 << 20)) }
                    return Keeper()
                }
            }
        }
        let failure = try #require(try await failure { try await chaos.storm(seed: 1, kills: 30, weights: [.kill: 1]) })
        #expect("\(failure)".contains("KiB of memory more than before"))
        blocks.with { $0 = [] }
    }

    @Test("of tasks that outlive their tree are found")
    func zombies() async throws {
        actor Endless: Worker {
            let waiting: Shared<[CheckedContinuation<Void, Never>]>
            init(_ waiting: Shared<[CheckedContinuation<Void, Never>]>) { self.waiting = waiting }
            func run() async {
                await withCheckedContinuation { continuation in waiting.with { $0.append(continuation) } }
            }
        }
        let waiting = Shared<[CheckedContinuation<Void, Never>]>([])
        let chaos = Chaos(stallTimeout: .milliseconds(50)) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("endless", options: ChildOptions(shutdown: .brutalKill)) { _ in Endless(waiting) }
                Child("other") { _ in Keeper() }
            }
        }
        let failure = try #require(try await failure { try await chaos.replay("kill app/other") })
        #expect("\(failure)".contains("left over: zombies: app/endless (Endless)"), "\(failure)")
        for continuation in waiting.with({ $0 }) { continuation.resume() }
    }

    @Test("are not seen where there are none: what was made to hang is let go")
    func none() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("a") { Waiter($0) }
                Child("b") { _ in Keeper() }
                Child("c") { Waiter($0, asked: false) }
            }
        }
        try await chaos.storm(seed: 2, kills: 100, weights: [.hang: 1])
    }
}
