extension Pid {
    /// Links two processes: when one ends with another reason than ``ExitReason/normal``, the other gets an exit signal with
    /// the same reason (OTP's `link/1`).
    ///
    /// What the signal does is told by ``exit(_:)``: a worker that took its stop request is asked to end, any other process
    /// ends. A kill is seen by the other side as ``ExitReason/killed``. A supervisor ignores it. There is one link between two
    /// processes, however often it is made. If the other has ended already, this process gets the signal with
    /// ``ExitReason/noProcess``.
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

    /// Takes the link away, from both sides. Does nothing when there is none.
    public func unlink(from other: Pid) {
        process.removeLink(other.process)
        other.process.removeLink(process)
    }
}
