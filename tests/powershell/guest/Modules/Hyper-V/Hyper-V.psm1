# Machines: `machines` of the fake computer. A compiled module on Windows.
function Get-VM {
    [CmdletBinding(DefaultParameterSetName = 'Name')]
    param(
        [Parameter(Position = 0, ParameterSetName = 'Name', ValueFromPipeline)]
        [Alias('VMName')] [ValidateNotNullOrEmpty()] [string[]] $Name,
        [Parameter(ParameterSetName = 'Id', Mandatory)] [guid] $Id
    )
    $computer = Get-FakeComputer
    if ($computer.vmProblem -eq 'denied') {
        Write-BinaryError $PSCmdlet 'AccessDenied' PermissionDenied ([System.UnauthorizedAccessException]::new(
            'You do not have the required permission to complete this task. Contact the administrator of the ' +
            'authorization policy for the computer.'))
        return
    }
    if ($computer.vmProblem -eq 'other') {
        Write-BinaryError $PSCmdlet 'InvalidState' InvalidOperation ([System.InvalidOperationException]::new(
            'The operation cannot be performed because the Hyper-V Virtual Machine Management service is not ' +
            'running.'))
        return
    }
    foreach ($one in $Name) {
        $found = @($computer.machines | Where-Object { $_.Name -like $one })
        if ($found.Count -eq 0) {
            Write-BinaryError $PSCmdlet 'InvalidParameter' InvalidArgument ([System.ArgumentException]::new(
                "Hyper-V was unable to find a virtual machine with name `"$one`"."))
        }
        foreach ($it in $found) {
            [pscustomobject]@{ Name = $it.Name; VMName = $it.Name; Id = $it.Id; VMId = $it.Id; State = $it.State }
        }
    }
}
