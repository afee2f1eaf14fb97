# Secure Boot: `secureBoot` of the fake computer is True, False or BIOS. A compiled module on Windows.
function Confirm-SecureBootUEFI {
    [CmdletBinding()] param()
    if ((Get-FakeComputer).secureBoot -eq 'BIOS') {
        Write-BinaryError $PSCmdlet 'GetFWVarFailed' NotImplemented ([System.PlatformNotSupportedException]::new(
            'Cmdlet not supported on this platform: 0xC0000002'))
        return
    }
    (Get-FakeComputer).secureBoot -eq 'True'
}
