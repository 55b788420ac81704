import Logging

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The one place where this library ends the OS process: a child that asked for it with ``OnUnstoppable/crashProcess``.
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
