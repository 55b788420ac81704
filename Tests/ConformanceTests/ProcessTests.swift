import Synchronization
import Testing

@testable import Supervision

@Suite("The end of a process")
struct ProcessTests {
    @Test("is not told to somebody who asks while its names are being released")
    func announcedAfterRelease() {
        let log = Mutex<[String]>([])
        let process = Process()
        _ = process.addCleanup { _ in
            // What another thread may do at this moment.
            process.watch { _ in log.withLock { $0.append("announced") } }
            log.withLock { $0.append("released") }
        }
        process.finish(.killed)
        #expect(log.withLock { $0 } == ["released", "announced"])
        process.watch { _ in log.withLock { $0.append("announced again") } }
        #expect(log.withLock { $0 } == ["released", "announced", "announced again"])
    }
}
