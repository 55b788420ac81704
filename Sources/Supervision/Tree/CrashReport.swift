import Logging

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Ends the OS process for a child with ``OnUnstoppable/crashProcess``: the only place in this library that does.
enum CrashReport {
    static func endProcess(because error: SupervisionError, in supervisor: SupervisorProcess) -> Never {
        var root = supervisor
        while let parent = root.parent { root = parent }
        let report = """
            supervision: ending the OS process: \(error)
            \(root.tree())

            """
        supervisor.environment.logger.critical("ending the OS process", metadata: ["supervision.reason": "\(error)"])
        let bytes = Array(report.utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        abort()
    }
}
