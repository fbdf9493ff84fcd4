! Prints residuals, writes a file, and ends in the way that its first argument says.
program solver
  implicit none
  character(len=32) :: way, pid
  integer :: step, unit
  real(8) :: residual

  call get_command_argument(1, way)
  call get_command_argument(2, pid)
  residual = 1d0
  do step = 1, 3
    residual = residual / 10
    print '(a, i0, a, d11.4)', 'step ', step, ' res = ', residual
  end do
  open (newunit=unit, file='field.dat', status='replace')
  write (unit, '(d11.4)') residual
  close (unit)
  if (way /= 'unflushed') flush (6)
  select case (way)
  case ('fails')
    error stop 3
  case ('killed', 'unflushed')
    call kill(getpid(), 9) ! execute_command_line would flush first
  case ('interrupted')
    call execute_command_line('kill -INT ' // trim(pid), wait=.false.) ! waiting would ignore it
    do
      call sleep(60)
    end do
  end select
end program
