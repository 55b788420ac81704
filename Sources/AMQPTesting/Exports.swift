@_exported public import LocalBroker
@_exported public import SupervisionTesting
