extension Pid {
    /// Links two processes: when one ends with a reason other than ``ExitReason/normal``, the other receives an exit signal with that
    /// reason (OTP's `link/1`).
    ///
    /// The signal has the effect of ``exit(_:)``: a worker that took its stop request is asked to stop, any other process ends. The other
    /// side sees a kill as ``ExitReason/killed``. A supervisor ignores the signal. There is at most one link between two processes. If the
    /// other process has already ended, this process receives the signal with ``ExitReason/noProcess``.
    public func link(to other: Pid) {
        guard other != self else { return }
        guard process.addLink(other.process) == nil else {
            other.process.sendLinked(.noProcess)
            return
        }
        if other.process.addLink(process) != nil, process.removeLink(other.process) {
            process.sendLinked(.noProcess)
        }
    }

    /// Removes the link from both sides. Does nothing when there is none.
    public func unlink(from other: Pid) {
        process.removeLink(other.process)
        other.process.removeLink(process)
    }
}
